// How many messages a link of the AMQP server can take: links of one session share its window and its table of deliveries, and a
// link that found no room must hear of it when there is some again. The peer is the library as a client.

import { createServer, type AddressInfo, type Server } from 'node:net';
import rhea, { type Connection } from 'rhea';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createAmqpServer } from '../../../../src/wire/amqp.ts';
import { encodeAmqpMessage } from '../../../../src/wire/amqp-message.ts';
import type { AmqpHandlers, AmqpSender } from '../../../../src/wire/amqp-types.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const MESSAGE = encodeAmqpMessage({ data: Buffer.from('on') });

describe('the capacity of links on one session', () => {
  const links = new Map<string, AmqpSender>();
  /** Messages that came, by link. */
  const received = new Map<string, number>();
  let server: Server;
  let client: Connection;

  beforeEach(async () => {
    links.clear();
    received.clear();
    const amqp = await createAmqpServer({
      containerId: 'hub',
      maxFrameBytes: 65_536,
      maxMessageBytes: 65_536,
      idleTimeoutMs: 60_000,
      maxSessions: 10,
      maxLinks: 1000,
      clock: new ManualClock(),
    });
    const handlers: AmqpHandlers = {
      onOpen() {},
      onLink: (link) => void (link.role === 'sender' && links.set(link.name, link)),
      onLinkClosed() {},
      onClosed() {},
      plain: () => Promise.resolve(true),
      onFault: (reason) => expect.unreachable(reason),
    };
    server = createServer((socket) => void amqp.accept(socket, handlers)).listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as AddressInfo;
    client = rhea.create_container().connect({ host: '127.0.0.1', port, username: 'anonymous', reconnect: false });
    client.on('message', ({ receiver }) => {
      const name = String(receiver?.name);
      received.set(name, (received.get(name) ?? 0) + 1);
    });
  });

  afterEach(() => {
    client.close();
    server.close();
  });

  /** Opens links of one session. @param credit of each; the library gives it anew as messages come. */
  async function open(names: readonly string[], credit: number, options: object = {}): Promise<void> {
    for (const name of names) client.open_receiver({ name, source: name, credit_window: credit, ...options });
    await expect.poll(() => names.every((name) => (links.get(name)?.capacity ?? 0) > 0)).toBe(true);
  }

  /** Sends so many on each link, as far as it takes them at once, the rest when it says so. */
  function send(names: readonly string[], count: number): void {
    for (const name of names) {
      const link = links.get(name);
      if (link === undefined) throw new Error(`There is no link ${name}.`);
      let left = count;
      link.onCapacity = () => {
        while (left > 0 && link.capacity > 0) {
          left -= 1;
          link.send(MESSAGE, { onOutcome: (_outcome, sent) => sent.settle('accepted') });
        }
      };
      link.onCapacity();
    }
  }

  const total = (): number => [...received.values()].reduce((sum, count) => sum + count, 0);

  it('is its own credit, whatever the other links send in the same turn', async () => {
    const names = Array.from({ length: 60 }, (_, index) => `link-${index}`);
    await open(names, 10);
    send(names, 1);
    expect(names.map((name) => links.get(name)?.capacity)).toEqual(names.map(() => 9));
    await expect.poll(() => received.size).toBe(60);
  });

  it('is told anew when what waited for the session has gone out', async () => {
    const names = Array.from({ length: 6 }, (_, index) => `link-${index}`);
    await open(names, 200);
    send(names, 200);
    await expect.poll(total).toBe(1200);
  });

  it('is told anew when the table of what is not settled has room again', async () => {
    const held: (() => void)[] = [];
    client.on('message', ({ delivery }) => void held.push(() => delivery?.accept()));
    await open(['full'], 2048, { autoaccept: false });
    send(['full'], 2048);
    await expect.poll(() => held.length).toBe(2048);
    client.open_receiver({ name: 'late', source: 'late', credit_window: 10 });
    await expect.poll(() => links.has('late')).toBe(true);
    send(['late'], 1);
    expect(links.get('late')?.capacity).toBe(0);
    for (const accept of held) accept();
    await expect.poll(() => received.get('late')).toBe(1);
  });
});
