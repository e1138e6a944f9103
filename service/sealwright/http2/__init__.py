"""The frames of HTTP/2, for the listener of gRPC and for clients of KMSs that speak gRPC."""
