// From the outbox on disk through the pump and the AMQP transport to a stub of IoT Hub, over a bare sender of the `rhea` library
// that sends the same batches to the same stub.

import { join } from 'node:path';
import rhea from 'rhea';
import { iotHubUpstreamConfig } from '../../modules/upstream-iothub/config.ts';
import { createIotHubTransport } from '../../modules/upstream-iothub/transport.ts';
import { atLeast, median, perSecond, ratioOf, whole, type BenchContext, type BenchRow } from './bench.ts';
import { startHubStub, upstreamToStub, type HubStub } from './iothub-stub.ts';
import { body, DEVICES, filledOutbox, throughOutbox } from './upstream-load.ts';

/** As shipped, over AMQP. */
const WINDOW = 1024;
const BATCH = 100;
const BATCH_FORMAT = 0x8001_3700;
const HEAD_START = 2000;
const BAR = 0.7;

export async function run(context: BenchContext): Promise<readonly BenchRow[]> {
  const messages = context.quick ? 60_000 : 100_000;
  const rounds = context.quick ? 3 : 7;
  await using stub = await startHubStub({ address: '127.0.162.1', directory: context.directory });
  const own = upstreamToStub(stub);
  const gateway = iotHubUpstreamConfig.parse(own);
  const derived = iotHubUpstreamConfig.parse({
    ...own,
    leaf_devices: { identity: 'group_key', group_key: own.shared_access_key },
  });
  const rates: Record<'plain' | 'gateway' | 'derived', number[]> = { plain: [], gateway: [], derived: [] };
  const sizes: Record<'gateway' | 'derived', number[]> = { gateway: [], derived: [] };
  for (let round = 0; round < rounds; round += 1) {
    rates.plain.push(await bare(stub, messages));
    for (const [name, config] of Object.entries({ gateway, derived }) as ['gateway' | 'derived', typeof gateway][]) {
      const before = await stub.tally();
      const outbox = await filledOutbox(join(context.directory, `${name}-${round}`), messages);
      rates[name].push(
        await throughOutbox(outbox, (endpoint) => createIotHubTransport(config, endpoint), messages, HEAD_START),
      );
      await outbox.close();
      const after = await stub.tally();
      if (after.messages - before.messages !== messages) throw new Error('The stub did not get what was delivered.');
      sizes[name].push((after.messages - before.messages) / (after.transfers - before.transfers));
    }
  }
  const row = (name: 'gateway' | 'derived', what: string): BenchRow => ({
    what,
    measured: `${whole(median(rates[name]))}/s over ${whole(median(rates.plain))}/s, medians of ${rounds} rounds of ${whole(messages)}; ${median(sizes[name]).toFixed(1)} messages in a batch`,
    value: ratioOf(rates[name], rates.plain),
    unit: '×',
  });
  return [
    {
      ...row(
        'gateway',
        `outbox → IoT Hub over AMQP, to a stub, over a bare rhea sender of batches of ${BATCH} with the same unsettled window (${WINDOW}), 256 B`,
      ),
      bar: atLeast(BAR),
    },
    row('derived', `the same, ${DEVICES} devices under identities of their own, in turn`),
  ];
}

function encoded(number: number): Buffer {
  // As much as the gateway says of a message.
  return rhea.message.encode({
    message_id: `k3f9x.meter-${number % DEVICES}.${number}`,
    application_properties: { device_id: `meter-${number % DEVICES}` },
    body: rhea.message.data_section(body(number)),
  });
}

async function bare({ address, ca, port }: HubStub, messages: number): Promise<number> {
  const container = rhea.create_container();
  const connection = container.connect({
    transport: 'tls',
    host: address,
    port,
    ca,
    max_frame_size: 65_536,
    reconnect: false,
    ...({ tcp_no_delay: true } as object),
  });
  const sender = connection.open_sender('/devices/gateway-1/messages/events');
  let sent = 0;
  let accepted = 0;
  let startedMs = 0;
  let from = 0;
  const done = Promise.withResolvers<void>();
  const fill = (): void => {
    while (sent < messages && sent - accepted + BATCH <= WINDOW && sender.sendable()) {
      const members = Array.from({ length: BATCH }, (_, index) => encoded(sent + index));
      sender.send(rhea.message.encode({ body: rhea.message.data_sections(members) }), undefined, BATCH_FORMAT);
      sent += BATCH;
    }
  };
  sender.on('sendable', fill);
  sender.on('accepted', () => {
    accepted += BATCH;
    if (startedMs === 0 && accepted >= HEAD_START) [startedMs, from] = [performance.now(), accepted];
    if (accepted === messages) done.resolve();
    else fill();
  });
  await done.promise;
  const rate = perSecond(messages - from, performance.now() - startedMs);
  connection.close();
  return rate;
}
