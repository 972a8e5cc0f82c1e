-- All seats' states, as of a version.
-- KEYS: as the table
-- Returns: {the bits, version}
return {redis.call('GET', KEYS[1]), redis.call('XREVRANGE', KEYS[5], '+', '-', 'COUNT', 1)[1][1]}
