"""JSON Object Signing and Encryption, as far as a signer needs it. Pure: no I/O, no clock, no private keys."""
