"""Question in, SQL text and parameters out: pure, golden-tested, every value bound by the server."""
