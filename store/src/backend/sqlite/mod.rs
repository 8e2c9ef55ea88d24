//! SQLite: the log first, indexes behind it.
