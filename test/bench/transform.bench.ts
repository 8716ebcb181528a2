// What shaping costs: 10 000 points a second through the real pipeline into the outbox on disk, half of the devices with
// deadbands, all of them packed. Everything that is not the adapter is in this process and is counted.

import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseDeviceId } from '../../src/core/device.ts';
import { GOOD, type Reading } from '../../src/core/reading.ts';
import { createPointCache } from '../../src/devices/point-cache.ts';
import { Ingress } from '../../src/pipeline/ingress.ts';
import { createRouter } from '../../src/pipeline/route.ts';
import { createTransform } from '../../src/pipeline/transform.ts';
import { SystemClock } from '../../src/platform/clock.ts';
import { atMost, type BenchContext, type BenchRow } from './bench.ts';
import { calibrate } from './calibration.ts';
import { cpuSeconds } from './process-meter.ts';
import { consume } from './store-consumer.ts';
import { openBenchOutbox } from './store-load.ts';

const DEVICES = 100;
const POINTS = 100;
const POLL_MS = 1000;
const BAR_PERCENT = 25;
const PACK = { maxBytes: 4096, maxMs: 10_000 };
const WARM_UP_SECS = 5;

export async function run(context: BenchContext): Promise<readonly BenchRow[]> {
  const router = createRouter({
    endpoints: [{ name: 'out', order: 'strict' }],
    routes: [{ name: 'all', condition: 'true', endpoint: 'out', enabled: true }],
  });
  const outbox = await openBenchOutbox(join(context.directory, 'transform'), { queues: ['out'] });
  const ended = new AbortController();
  const consumer = consume(outbox, 'out', ended.signal);
  const clock = new SystemClock();
  const suppressed = { deadband: 0, rate: 0, window: 0 };
  const transform = createTransform({
    onSuppressed: (counts) => {
      suppressed.deadband += counts.deadband;
    },
  });
  const cache = createPointCache();
  let messages = 0;
  const ingress = new Ingress({
    outbox,
    router,
    transform,
    messages: { pack: PACK },
    clock,
    telemetry: { emit: (name) => void (messages += name === 'messages_received' ? 1 : 0) },
  });
  const devices = Array.from({ length: DEVICES }, (_, index) => parseDeviceId(`meter-${index}`));
  const names = Array.from({ length: POINTS }, (_, index) => `point_${index}`);
  for (const [index, deviceId] of devices.entries()) {
    const shape = index % 2 === 0 ? { deadband: 0.5, heartbeatMs: 60_000 } : {};
    const info = { deviceId, points: names.map((name) => ({ name, address: name, writable: false, shape })) };
    cache.setDevice(info);
    transform.setDevice(info);
  }
  let readings = 0;
  let round = 0;
  const poll = (deviceId: (typeof devices)[number], index: number): void => {
    const values = names.map((point, place): Reading => ({
      point,
      value: 230 + Math.sin(round / 7 + index + place),
      quality: GOOD,
    }));
    const shaped = transform.shape({ deviceId, time: clock.now(), readings: values });
    cache.update(shaped);
    ingress.readings(shaped);
    readings += values.length;
  };
  const load = async (secs: number): Promise<void> => {
    const startMs = performance.now();
    // Devices are spread over the second, as polls are.
    for (let turn = 0; turn < secs * DEVICES; turn += 1) {
      const waitMs = startMs + (turn * POLL_MS) / DEVICES - performance.now();
      if (waitMs > 1) await sleep(waitMs);
      const index = turn % DEVICES;
      if (index === 0) round += 1;
      const deviceId = devices[index];
      if (deviceId !== undefined) poll(deviceId, index);
    }
  };
  const secs = context.quick ? 15 : 60;
  context.progress(`${DEVICES * POINTS} points a second for ${secs} s`);
  await load(WARM_UP_SECS);
  [readings, messages, suppressed.deadband] = [0, 0, 0];
  const [startedMs, startedCpu] = [performance.now(), cpuSeconds(process.pid)];
  await load(secs);
  const elapsedSecs = (performance.now() - startedMs) / 1000;
  const percent = ((cpuSeconds(process.pid) - startedCpu) / elapsedSecs) * 100;
  await ingress.stop(AbortSignal.timeout(10_000));
  ended.abort();
  await consumer;
  await outbox.close();
  const { ms } = calibrate();
  const perSec = (count: number): string => (count / elapsedSecs).toFixed(0);
  return [
    {
      what: 'CPU of deadband and packing on 10 000 points a second, storing included, in percent of a core',
      measured: `${perSec(readings)} points a second, ${perSec(suppressed.deadband)} within their deadband, ${perSec(messages)} messages a second of up to ${PACK.maxBytes} B; calibration ${ms.toFixed(0)} ms`,
      value: percent,
      unit: '%',
      bar: atMost(BAR_PERCENT),
    },
  ];
}
