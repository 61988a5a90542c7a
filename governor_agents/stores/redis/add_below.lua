-- Add to a counter unless the sum would exceed the limit.
-- KEYS: record, clock, ids
-- ARGV: amount, limit, op, tenant, id, the time seen, channel, writer
-- Answers: what happened, the sum, now.
local record, clock, op = KEYS[1], KEYS[2], ARGV[3]
local was = redis.call('HMGET', record, 'v', 'ops', 'body')
local v, ops, sum = was[1], was[2] or '', was[3]
local now = time(clock, ARGV[6])
if not v and redis.call('EXISTS', record) == 1 then return {'edited', '0', whole(now)} end
if v and not (sum and string.match(sum, '^-?%d+$') and string.match(v, '^%d+$')) then return {'edited', '0', whole(now)} end
if known(ops, op) then
  redis.call('SET', clock, whole(now))  -- a write of this connection, so that WAIT waits for all before it
  return {'won', sum, whole(now)}
end
-- Numbers are doubles here: what is compared stays below 2^53, so that it is exact.
local had, amount, limit = tonumber(sum or '0'), tonumber(ARGV[1]), tonumber(ARGV[2])
if (amount > 0 and had > limit - amount) or (amount <= 0 and had + amount > limit) then
  return {'refused', '0', whole(now)}
end
local total = had + amount

local changes = {}
if not v then move(changes, KEYS[3], nil, ARGV[4] .. ARGV[5]) end
changes[#changes + 1] =
  {'HSET', record, 'v', whole(tonumber(v or '0') + 1), 'ops', remembered(ops, op), 'body', whole(total)}
done(changes, clock, now, ARGV[7], ARGV[8])
return {'won', whole(total), whole(now)}
