"""The built-in providers. Each is an extra (`sealwright[aws]`). Its SDK is imported only when a configured provider needs it."""
