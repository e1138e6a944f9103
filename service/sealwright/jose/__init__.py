"""JSON Object Signing and Encryption, as far as a signer needs it. Pure: without I/O, clock or private keys."""
