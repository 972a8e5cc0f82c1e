-- The states of all seats, and the version that they belong to.
-- KEYS: as the table in mod.rs
-- Returns: {the bits, version}
return {redis.call('GET', KEYS[1]), redis.call('XREVRANGE', KEYS[5], '+', '-', 'COUNT', 1)[1][1]}
