-- Requests with an idempotency key that were done; this part stands before the scripts that need it. There are two
-- hashes, of the present period and of the one before; the field '' says when the present one began. When it is over, or
-- full, its hash replaces the older one, so that whole hashes expire instead of single fields.
-- A request: when it was done, 13 digits; request hash, 16 bytes; the hold, 16 bytes; the hold's record as it was made.
local RETENTION_MS, REQUESTS_MAX = 600000, 65536

-- The reply to a request that was done before; nil when it was not, or too long ago.
local function completed_reply(done, request_hash, holds, now)
  if not done or tonumber(done:sub(1, 13)) < now - RETENTION_MS then return nil end
  if done:sub(14, 29) ~= request_hash then return {'reused'} end
  local id = done:sub(30, 45)
  local record = redis.call('HGET', holds, id)
  if not record or record:sub(1, 1) == 'B' then record = done:sub(46) end
  return {'replayed', id, record}
end

