"""gRPC: one file a service."""
