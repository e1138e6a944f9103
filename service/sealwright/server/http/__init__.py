"""HTTP: what verifiers and operators fetch, all of it from memory."""
