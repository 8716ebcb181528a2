// What the benches of the upstream transports share: an outbox that holds messages, and the pump that sends them.

import { parseDeviceId } from '../../src/core/device.ts';
import type { EndpointContext } from '../../src/core/endpoint.ts';
import type { Logger } from '../../src/core/log.ts';
import type { Outbox } from '../../src/core/outbox.ts';
import { SystemClock } from '../../src/platform/clock.ts';
import { systemRandom } from '../../src/platform/random.ts';
import { createEndpointRunner, type EndpointRunnerOptions } from '../../src/upstream/endpoint-runner.ts';
import { waitFor } from '../support/wait.ts';
import { perSecond } from './bench.ts';
import { openBenchOutbox, payloads, polledEntry } from './store-load.ts';

export const DEVICES = 50;
const BODY_BYTES = 256;
const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => SILENT };
const bodies = payloads(4096, BODY_BYTES);

/** 256 bytes, others for each index. */
export function body(index: number): Buffer {
  return bodies[index % bodies.length] ?? Buffer.alloc(BODY_BYTES);
}

export async function filledOutbox(directory: string, messages: number): Promise<Outbox> {
  const outbox = await openBenchOutbox(directory, { queues: ['$upstream'] });
  for (let next = 0; next < messages; next += 500) {
    await outbox.append(
      Array.from({ length: 500 }, (_, index) => polledEntry(`meter-${index % DEVICES}`, body(next + index))),
    );
  }
  return outbox;
}

/**
 * Messages a second between the head start and the last acknowledgement.
 * @param headStart acknowledged before the clock starts: the connection stands and the window is full
 */
export async function throughOutbox(
  outbox: Outbox,
  createTransport: (context: EndpointContext) => EndpointRunnerOptions['endpoint'],
  messages: number,
  headStart: number,
): Promise<number> {
  const clock = new SystemClock();
  const runner = createEndpointRunner({
    name: '$upstream',
    endpoint: createTransport({
      endpointName: '$upstream',
      gatewayId: parseDeviceId('gateway-1'),
      clock,
      log: SILENT,
    }),
    queue: outbox.queue('$upstream'),
    order: 'live_first',
    clockOffset: (bootId) => outbox.clockOffset(bootId),
    clock,
    random: systemRandom,
    telemetry: { emit() {} },
  });
  const never = new AbortController().signal;
  await runner.start(never);
  const delivered = (): number => runner.status().deliveredTotal;
  await waitFor(() => delivered() >= headStart, { everyMs: 1, timeoutMs: 20_000, what: 'the head start' });
  const [startedMs, from] = [performance.now(), delivered()];
  await waitFor(() => delivered() === messages, { everyMs: 2, timeoutMs: 120_000, what: 'all to be delivered' });
  const rate = perSecond(messages - from, performance.now() - startedMs);
  await runner.stop(never);
  return rate;
}
