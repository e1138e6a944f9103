"""Keys in time: what a key may do, the snapshot that signs and publishes, and the rotation that moves it on."""
