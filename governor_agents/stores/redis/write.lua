-- Insert or swap: record, events, blobs and sets in one atomic unit.
-- KEYS: record, events, blobs, clock, ids, due, one set per index field
-- ARGV: the v that must stand ('' for an insert), v to write, op, tenant, id, due ('' for none), body, not_after ('' for
--       none), the time seen, channel, writer, index values ('' for none, else '=' and the value), how many events,
--       their seqs and members, digests and contents of blobs
-- Answers: what happened, v, now; when it was lost or late, the record's fields too.
local record, events, blobs, clock = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local expected, op, tenant, id = ARGV[1], ARGV[3], ARGV[4], ARGV[5]
local was = redis.call('HMGET', record, 'v', 'ops', 'due', unpack(fields))
local v, ops = was[1], was[2] or ''
local now = time(clock, ARGV[9])
local function stands() return redis.call('HMGET', record, 'v', 'due', 'body', unpack(fields)) end

if not v then
  if redis.call('EXISTS', record) == 1 then return {'edited', '0', whole(now)} end
  if expected ~= '' then return {'none', '0', whole(now)} end
else
  if known(ops, op) then
    redis.call('SET', clock, whole(now))  -- a write of this connection, so that WAIT waits for all before it
    return {'won', v, whole(now)}
  end
  if v ~= expected then return {'lost', v, whole(now), stands()} end
  if ARGV[8] ~= '' and tonumber(ARGV[8]) < now / 1000000 then
    redis.call('SET', clock, whole(now))  -- late stays late
    return {'late', v, whole(now), stands()}
  end
end

local at = 12 + #fields
local last = at + 2 * tonumber(ARGV[at])
for n = at + 1, last, 2 do
  if redis.call('ZCOUNT', events, ARGV[n], ARGV[n]) > 0 then return {'event', ARGV[n], whole(now)} end
end
if last < #ARGV then redis.call('HLEN', blobs) end

local changes = {}
if not v then move(changes, KEYS[5], nil, tenant .. id) end
local due = ARGV[6] ~= '' and ARGV[6]
move(changes, KEYS[6], was[3] and tenant .. was[3] .. id, due and tenant .. due .. id)
local set = {'HSET', record, 'v', ARGV[2], 'ops', remembered(ops, op), 'body', ARGV[7]}
local unset = {'HDEL', record}
local function keep(name, old, new)
  if new then
    if new ~= old then set[#set + 1] = name; set[#set + 1] = new end
  elseif old then
    unset[#unset + 1] = name
  end
end
keep('due', was[3], due)
for n, name in ipairs(fields) do
  local old, given = was[3 + n], ARGV[11 + n]
  local new = given ~= '' and string.sub(given, 2)
  move(changes, KEYS[6 + n], old and tenant .. old .. '\0\0' .. id, new and tenant .. new .. '\0\0' .. id)
  keep(name, old, new)
end
changes[#changes + 1] = set
if #unset > 2 then changes[#changes + 1] = unset end
for n = at + 1, last, 2 do changes[#changes + 1] = {'ZADD', events, ARGV[n], ARGV[n + 1]} end
for n = last + 1, #ARGV, 2 do changes[#changes + 1] = {'HSETNX', blobs, ARGV[n], ARGV[n + 1]} end
done(changes, clock, now, ARGV[10], ARGV[11])
return {'won', ARGV[2], whole(now)}
