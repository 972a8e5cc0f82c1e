-- Everything is in its place: from now on calls of this epoch are answered.
-- KEYS: as the table
-- ARGV: 1 who this server is; 2 epoch; 3 token; 4 how long the token lives, ms
-- Returns: 'ready'
redis.call('SET', READY, EPOCH)
redis.call('SET', HOME, ARGV[1])
redis.call('DEL', REBUILDING)
return 'ready'
