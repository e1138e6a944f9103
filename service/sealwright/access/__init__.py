"""Identity and permissions of callers. Everything that no grant allows is denied."""
