//! Load generator for servers that speak the EventoDB protocol.
