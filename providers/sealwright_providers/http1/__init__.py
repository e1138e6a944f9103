"""HTTP/1.1 to one server, as cheap as a signature needs it: one request at a time on pooled connections."""
