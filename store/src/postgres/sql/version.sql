SELECT version, oldest_binary FROM {log}.migrations ORDER BY version DESC LIMIT 1
