"""`tollway trace`: recorded traffic, read, played through a gateway, accounted for."""
