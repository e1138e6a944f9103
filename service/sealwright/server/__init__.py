"""Listeners: gRPC for callers, HTTP for verifiers, HTTP for operators."""
