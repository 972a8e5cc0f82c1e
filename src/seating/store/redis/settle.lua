-- The slot was handed to this server with all its keys, by the one that was vouched for.
-- KEYS: as the table
-- ARGV: 1 who this server is
-- Returns: 'settled'
redis.call('SET', KEYS[9], ARGV[1])
return 'settled'
