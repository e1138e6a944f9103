"""HTTP/2 as a server: streams of requests and answers, within bounds."""
