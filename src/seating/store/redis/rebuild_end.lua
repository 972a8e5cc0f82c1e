-- The dataset is complete: from now on calls of this epoch are answered.
-- KEYS: as the table in mod.rs
-- ARGV: 1 this dataset's id; 2 epoch; 3 token; 4 ttl of the token, ms
-- Returns: 'ready'
redis.call('SET', READY, EPOCH)
redis.call('SET', DATASET_ID, ARGV[1])
redis.call('DEL', REBUILD)
return 'ready'
