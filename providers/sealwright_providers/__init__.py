"""The built-in providers. Each is an extra (`sealwright[aws]`), and its SDK is imported when a configured provider needs it."""
