"""HTTP/2 to one server, as cheap as a unary gRPC call needs it: many requests at a time on few connections."""
