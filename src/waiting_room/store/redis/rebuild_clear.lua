-- Deletes keys of the earlier epoch.
-- KEYS rebuilding; then the keys to delete. ARGV epoch, claim_ttl_ms. Returns: 1, or 0 when overtaken.
if redis.call('GET', rebuilding_key) ~= epoch then
    return 0
end
redis.call('PEXPIRE', rebuilding_key, claim_ttl_ms)
for i = 2, #KEYS do
    redis.call('UNLINK', KEYS[i])
end
return 1
