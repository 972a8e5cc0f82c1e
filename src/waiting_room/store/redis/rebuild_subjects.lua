-- Restores customers' numbers.
-- KEYS rebuilding; then buckets. ARGV epoch, claim_ttl_ms; then per customer the bucket's index in KEYS, field and number.
-- Returns: 1, or 0 when overtaken.
if redis.call('GET', rebuilding_key) ~= epoch then
    return 0
end
redis.call('PEXPIRE', rebuilding_key, claim_ttl_ms)
for i = FIRST_ITEM, #ARGV, 3 do
    redis.call('HSET', KEYS[tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2])
end
return 1
