-- The cluster slot was migrated with all its keys to this server, by the one whose dataset was activated.
-- KEYS: as the table in mod.rs
-- ARGV: 1 this dataset's id
-- Returns: 'accepted'
redis.call('SET', KEYS[9], ARGV[1])
return 'accepted'
