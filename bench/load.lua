-- Load for wrk: one request over and over until a deadline, then every connection falls silent.
--
-- BENCH_REQUEST is a file with the body, BENCH_HEADERS holds lines of "name: value", BENCH_WINDOW_S
-- how long requests are sent, BENCH_CONNECTIONS how many connections there are, of one thread. What
-- is under way at the deadline is answered too: only then is the number of answers the number of
-- exchanges. When the last one is silent a line says so, and an interrupt ends wrk early. The last
-- line printed is JSON; times are microseconds.

local ffi = require("ffi")
ffi.cdef [[
  typedef struct { long seconds; long nanoseconds; } bench_time;
  int clock_gettime(int clock, bench_time *time);
]]

local MONOTONIC = 1
local SILENCE_MS = 3600 * 1000
local clock = ffi.new("bench_time")

local function now()
  ffi.C.clock_gettime(MONOTONIC, clock)
  return tonumber(clock.seconds) + tonumber(clock.nanoseconds) * 1e-9
end

local threads = {}

function setup(thread)
  threads[#threads + 1] = thread
end

function init()
  local file = assert(io.open(os.getenv("BENCH_REQUEST"), "rb"))
  wrk.method = "POST"
  wrk.body = file:read("*a")
  file:close()
  for name, value in os.getenv("BENCH_HEADERS"):gmatch("([^:\n]+): ([^\n]*)") do
    wrk.headers[name] = value
  end
  local request = wrk.format()
  wrk.request = function() return request end
  sent, silent = 0, 0
  window_s = tonumber(os.getenv("BENCH_WINDOW_S"))
  connections = tonumber(os.getenv("BENCH_CONNECTIONS"))
end

-- wrk asks before every request how long to wait with it: at first, and when one is answered.
function delay()
  local at = now()
  deadline = deadline or at + window_s
  if at < deadline then
    sent = sent + 1
    return 0
  end
  silent = silent + 1
  if silent == connections then
    io.write("silent\n")
    io.flush()
  end
  return SILENCE_MS
end

function done(summary, latency)
  local sent_by_all = 0
  for _, thread in ipairs(threads) do
    sent_by_all = sent_by_all + thread:get("sent")
  end
  local errors = summary.errors
  io.write(string.format(
    '{"sent":%d,"answered":%d,"bytes":%d,"status_errors":%d,"socket_errors":%d,"timeouts":%d,'
      .. '"p50_us":%d,"p99_us":%d}\n',
    sent_by_all, summary.requests, summary.bytes, errors.status,
    errors.connect + errors.read + errors.write, errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
