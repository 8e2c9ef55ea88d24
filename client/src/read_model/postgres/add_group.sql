INSERT INTO eventodb_group (name, least_epoch) VALUES ($1, 0) ON CONFLICT (name) DO NOTHING
