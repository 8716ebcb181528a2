// The AMQP transport against Qpid Proton, another implementation, which behaves as badly as the specification allows.

import { once } from 'node:events';
import { connect, createServer, type AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createWebSocketStream, WebSocketServer } from 'ws';
import type { CommandReceiver, IncomingCommand } from '../../src/core/endpoint.ts';
import { parseDeviceId } from '../../src/core/device.ts';
import { startTcpProxy } from '../sim/tcp-proxy.ts';
import { amqpTransport } from '../support/amqp-rig.ts';
import { startHttpProxy } from '../support/http-proxy.ts';
import { startProtonPeer, type ProtonPeer } from '../support/proton-peer.ts';
import { hastyClock, startRig, stored } from '../support/upstream-rig.ts';
import { waitFor } from '../support/wait.ts';

const ADDRESS = '127.0.142.2';
const FULL = process.env['FIELDPOST_FULL'] === '1';
const SOON = (): AbortSignal => AbortSignal.timeout(10_000);
const NEVER = new AbortController().signal;

let peer: ProtonPeer;
let count = 0;

beforeAll(async () => {
  peer = await startProtonPeer(ADDRESS);
});

afterAll(async () => {
  await peer[Symbol.asyncDispose]();
});

/** An address of the test's own with that behaviour. */
function at(behaviour: string): string {
  count += 1;
  return `t${count}.${behaviour}`;
}

async function opened(config: Record<string, unknown>): Promise<ReturnType<typeof amqpTransport>> {
  const transport = amqpTransport({ url: peer.url, ...config });
  await transport.open(SOON());
  return transport;
}

describe('what the peer makes of a message', () => {
  it.each([
    ['accept', { status: 'accepted' }],
    ['release', { status: 'retry', kind: 'transient' }],
    ['modify', { status: 'retry', kind: 'transient' }],
    ['modifyhere', { status: 'rejected' }],
    ['settle', { status: 'retry', kind: 'transient' }],
    ['unsettled', { status: 'accepted' }],
    ['twice', { status: 'accepted' }],
    ['rejectodd', { status: 'rejected', reason: expect.stringContaining('vendor:whatever') as unknown }],
    ['full', { status: 'retry', kind: 'transient', blameless: true }],
  ])('%s', async (behaviour, wanted) => {
    const transport = await opened({ address: at(behaviour) });
    expect(await transport.send([stored('a')], SOON())).toMatchObject([wanted]);
    await transport.close();
  });

  it('reject: quarantine with condition and description', async () => {
    const transport = await opened({ address: at('reject') });
    const [result] = await transport.send([stored('a')], SOON());
    expect(result).toMatchObject({ status: 'rejected' });
    expect((result as { reason: string }).reason).toContain('amqp:precondition-failed: the schema does not fit');
    await transport.close();
  });

  it('carries the neutral message: durable, with ids, properties and times', async () => {
    const address = at('accept');
    const transport = await opened({ address });
    const deviceId = parseDeviceId('meter-9');
    const systemProperties = {
      messageId: 'own-1',
      correlationId: 'c-1',
      contentType: 'application/json',
      contentEncoding: 'utf-8',
      creationTimeUtc: '2026-01-02T03:04:05.678Z',
      absoluteExpiryTime: '2036-01-02T03:04:05Z',
      messageSchema: 'meter;v1',
      diagnosticId: '00-1-2-01',
    };
    const one = stored('{"a":1}', 7, { deviceId, properties: { level: 'älarm' }, systemProperties });
    expect(await transport.send([{ ...one, messageId: 'own-1' }], SOON())).toEqual([{ status: 'accepted' }]);
    await expect
      .poll(() => peer.of('message', address))
      .toMatchObject([
        {
          id: 'own-1',
          body: '{"a":1}',
          durable: true,
          settled: false,
          content_type: 'application/json',
          correlation_id: 'c-1',
          creation_time: Date.parse('2026-01-02T03:04:05.678Z') / 1000,
          expiry_time: Date.parse('2036-01-02T03:04:05Z') / 1000,
          properties: {
            level: 'älarm',
            device_id: 'meter-9',
            'fieldpost-id': 'abcd.meter-9.7',
            'iothub-creation-time-utc': '2026-01-02T03:04:05.678Z',
            'iothub-message-schema': 'meter;v1',
            'Diagnostic-Id': '00-1-2-01',
          },
        },
      ]);
    await transport.close();
  });

  it('rejects what is larger than the attach allows, or than the peer says when it is there', async () => {
    const large = 'x'.repeat(2000);
    for (const behaviour of ['small', 'size']) {
      const address = at(behaviour);
      const transport = await opened({ address });
      const results = await transport.send([stored('a', 1), stored(large, 2), stored('b', 3)], SOON());
      expect(results[1]).toMatchObject({ status: 'rejected' });
      expect(results[2]?.status).toBe(behaviour === 'small' ? 'accepted' : 'retry');
      expect(await transport.send([stored('c', 4)], SOON())).toEqual([{ status: 'accepted' }]);
      await transport.close();
    }
  });
});

describe('links and connections that end', () => {
  it.each(FULL ? ['detach', 'detacherror', 'detachodd', 'end'] : ['end'])(
    '%s: the link is made anew on the same connection',
    async (behaviour) => {
      const address = at(behaviour);
      const connections = peer.of('connection').length;
      await using rig = startRig(amqpTransport({ url: peer.url, address }));
      const sent = await rig.append(20);
      await rig.drained();
      await expect.poll(() => new Set(peer.of('message', address).map(({ body }) => body))).toEqual(new Set(sent));
      await expect.poll(() => peer.of('connection').length).toBe(connections + 1);
      await expect.poll(() => peer.of('attach', address).length).toBe(2);
    },
  );

  it.each(['close', 'drop'])('%s with transfers under way: everything is sent again', async (behaviour) => {
    const address = at(behaviour);
    await using rig = startRig(amqpTransport({ url: peer.url, address }));
    const sent = await rig.append(50);
    await rig.drained();
    await expect.poll(() => new Set(peer.of('message', address).map(({ body }) => body))).toEqual(new Set(sent));
  });

  it.each(['sick', 'sickend', 'sickclose'])(
    '%s: what was settled before the end is, and is not sent again',
    async (behaviour) => {
      const transport = await opened({ address: at(behaviour) });
      const results = await transport.send(
        [stored('a', 1), stored('b', 2), stored('poison', 3), stored('c', 4)],
        SOON(),
      );
      expect(results.map(({ status }) => status).slice(0, 3)).toEqual(['accepted', 'accepted', 'retry']);
      await transport.close();
    },
  );

  it.each(FULL ? ['sick', 'sickbare'] : ['sick'])(
    '%s: one message that ends the link holds up no other device',
    async (behaviour) => {
      const address = at(behaviour);
      await using rig = startRig(
        amqpTransport({ url: peer.url, address }),
        'live_first',
        FULL ? hastyClock : undefined,
      );
      const append = async (device: string, text: string): Promise<void> =>
        void (await rig.append(1, text, { deviceId: parseDeviceId(device) }));
      await append('bad', 'poison');
      for (let number = 0; number < 20; number += 1) await append('good', `g${number}.`);
      await waitFor(() => rig.outbox.queue('$upstream').stats().messages === 1, { what: 'all but one' });
      const texts = peer.of('message', address).map(({ body }) => body ?? '');
      expect(texts.filter((text) => text.startsWith('g'))).toHaveLength(20);
      if (!FULL) return;
      // Others pass, so that it is the message and not the peer.
      for (let number = 20; rig.outbox.queue('$upstream').stats().messages > 0; number += 1) {
        await append('good', `g${number}.`);
        const passed = (): boolean => rig.outbox.queue('$upstream').stats().messages <= 1;
        await waitFor(passed, { what: 'the next one' });
      }
      expect(rig.telemetry.of('message_rejected')).toMatchObject([{ fields: { device: 'bad' } }]);
    },
    60_000,
  );

  it('waits for an address that is not there, and says so', async () => {
    const address = at('late');
    await using rig = startRig(amqpTransport({ url: peer.url, address }));
    const sent = await rig.append(5);
    await waitFor(() => rig.runner.status().pausedReason?.includes('amqp:not-found'), { what: 'the reason' });
    expect(rig.runner.health()).toMatchObject({ status: 'degraded' });
    await rig.drained();
    await expect.poll(() => peer.of('message', address).map(({ body }) => body)).toEqual(sent);
    expect(rig.telemetry.of('message_rejected')).toEqual([]);
  });

  it('makes the link anew on which nothing is settled', async () => {
    const address = at('silent');
    const transport = await opened({ address, ack_timeout_ms: 1000 });
    expect(await transport.send([stored('a')], SOON())).toMatchObject([{ status: 'retry' }]);
    await transport.close();
  });
});

describe('addresses of devices', () => {
  it('goes on with the others while one is not there, forbidden, or gives no credit', async () => {
    count += 1;
    const address = `t${count}.{device_id}`;
    await using rig = startRig(amqpTransport({ url: peer.url, address, window: 8 }));
    for (const device of ['absent', 'forbidden', 'nocredit', 'mute']) {
      await rig.append(20, device, { deviceId: parseDeviceId(device) });
    }
    const good = await rig.append(100, 'g', { deviceId: parseDeviceId('good') });
    await waitFor(() => peer.of('message', `t${count}.good`).length === good.length, {
      timeoutMs: 20_000,
      what: 'the messages of the good one',
    });
    expect(peer.of('message', `t${count}.good`).map(({ body }) => body)).toEqual(good);
    expect(rig.telemetry.of('message_rejected')).toEqual([]);
    expect(rig.runner.status().pausedReason).toContain('held back');
  });

  it('closes links that are idle, and opens them again', async () => {
    count += 1;
    const transport = await opened({ address: `t${count}.{device_id}`, link_idle_secs: 1 });
    const address = `t${count}.meter-1`;
    expect(await transport.send([stored('a')], SOON())).toEqual([{ status: 'accepted' }]);
    await waitFor(() => peer.of('detached', address).length === 1, { what: 'the end of the link' });
    expect(await transport.send([stored('b')], SOON())).toEqual([{ status: 'accepted' }]);
    await expect.poll(() => peer.of('attach', address).length).toBe(2);
    await transport.close();
  });
});

describe('credit', () => {
  it('closes the window without it, says so after a while, and goes on when it comes', async () => {
    const address = at('nocredit');
    await using rig = startRig(amqpTransport({ url: peer.url, address, window: 4 }));
    const sent = await rig.append(10);
    await waitFor(() => rig.runner.status().pausedReason?.includes('no credit'), { what: 'the reason' });
    expect(rig.runner.status().inFlight).toBe(4);
    expect(peer.of('message', address)).toEqual([]);
    peer.say(`credit ${address} 3`);
    await waitFor(() => peer.of('message', address).length === 3, { what: 'three messages' });
    peer.say(`credit ${address} 100`);
    await rig.drained();
    await expect.poll(() => peer.of('message', address).map(({ body }) => body)).toEqual(sent);
  });

  it('takes it one by one', async () => {
    const address = at('slow');
    const transport = await opened({ address, window: 16 });
    const batch = Array.from({ length: 40 }, (_, index) => stored(`s${index}`, index + 1));
    expect(new Set((await transport.send(batch, SOON())).map(({ status }) => status))).toEqual(new Set(['accepted']));
    await expect.poll(() => peer.of('message', address).length).toBe(40);
    await transport.close();
  });
});

describe('commands', () => {
  async function receiving(
    command_address: string,
    more: object = {},
  ): Promise<{
    readonly transport: ReturnType<typeof amqpTransport>;
    readonly commands: IncomingCommand[];
    readonly ignored: string[];
  }> {
    const transport = amqpTransport({ url: peer.url, address: at('accept'), command_address, ...more });
    const commands: IncomingCommand[] = [];
    const ignored: string[] = [];
    const receiver: CommandReceiver = {
      onCommand: (command) => void commands.push(command),
      onIgnored: (reason) => void ignored.push(reason),
      callMethod: () => Promise.resolve({ status: 200, body: {} }),
      run: () => Promise.resolve({ status: 200 }),
      isAway: () => false,
    };
    transport.receiveCommands?.(receiver);
    await transport.open(SOON());
    return { transport, commands, ignored };
  }

  it('settles one when it is answered, and the answer is out', async () => {
    const [address, replies] = [at('commands'), at('accept')];
    const { transport, commands } = await receiving(address);
    peer.say(
      `send ${address} ${JSON.stringify({ body: '{"id":"1"}', device: 'plc', reply_to: replies, id: 'm-1', ttl_ms: 5000 })}`,
    );
    await waitFor(() => commands.length === 1, { what: 'the command' });
    const [command] = commands;
    if (command === undefined) throw new Error('no command');
    expect(command).toMatchObject({ deviceId: 'plc', command: 'write', needsExpiry: true });
    expect(Math.abs((command.expiresAtMs ?? 0) - Date.now() - 5000)).toBeLessThan(2000);
    expect(Buffer.from(command.payload).toString()).toBe('{"id":"1"}');
    expect(peer.of('outcome', address)).toEqual([]);
    const body = Buffer.from('{"status":200}');
    expect(await transport.answer?.(command, { id: '1', body })).toBe(true);
    await waitFor(() => peer.of('outcome', address).length === 1, { what: 'the settlement' });
    expect(peer.of('outcome', address)).toMatchObject([{ outcome: 'accepted', settled: true }]);
    expect(peer.of('message', replies)).toMatchObject([{ body: '{"status":200}', correlation_id: 'm-1' }]);
    // Answered already.
    expect(await transport.answer?.(command, { id: '1', body })).toBe(false);
    await transport.close();
  });

  it('takes actions, texts, and times of expiry; settles although the answer finds nobody', async () => {
    const address = at('commands');
    const { transport, commands } = await receiving(address);
    const expires_at_ms = 2_000_000_000_000;
    const fields = {
      body: 'text',
      binary: false,
      device: 'plc',
      command: 'home',
      reply_to: at('absent'),
      expires_at_ms,
    };
    peer.say(`send ${address} ${JSON.stringify(fields)}`);
    await waitFor(() => commands.length === 1, { what: 'the command' });
    expect(commands[0]).toMatchObject({ command: 'home', expiresAtMs: expires_at_ms });
    const both = at('commands');
    const { transport: other, commands: shorter } = await receiving(both);
    peer.say(`send ${both} ${JSON.stringify({ ...fields, ttl_ms: 5000 })}`);
    await waitFor(() => shorter.length === 1, { what: 'the command with two times' });
    expect(shorter[0]?.expiresAtMs).toBeLessThan(Date.now() + 6000);
    await other.close();
    expect(await transport.answer?.(commands[0] as IncomingCommand, { id: '1', body: Buffer.from('{}') })).toBe(false);
    await waitFor(() => peer.of('outcome', address).length === 1, { what: 'the settlement' });
    expect(peer.of('outcome', address)).toMatchObject([{ outcome: 'accepted' }]);
    await transport.close();
  });

  it('says where they are not given', async () => {
    const address = at('absent');
    const { transport, ignored } = await receiving(address);
    await waitFor(() => ignored.includes('not_subscribed'), { what: 'the refusal' });
    expect(transport.impaired).toMatch(new RegExp(`^No commands come from "${address}": .*no such node`));
    await transport.close();
  });

  it('refuses what is no command, or too large, and goes on', async () => {
    const address = at('commands');
    const { transport, commands, ignored } = await receiving(address);
    peer.say(`send ${address} ${JSON.stringify({ body: '{}' })}`);
    peer.say(`send ${address} ${JSON.stringify({ body: 'x'.repeat(300_000), device: 'plc' })}`);
    peer.say(`send ${address} ${JSON.stringify({ body: '{"id":"2"}', device: 'plc' })}`);
    await waitFor(() => commands.length === 1, { what: 'the good one' });
    await waitFor(() => peer.of('outcome', address).length === 2, { what: 'the refusals' });
    expect(peer.of('outcome', address).map(({ outcome }) => outcome)).toEqual(['rejected', 'rejected']);
    expect(ignored).toEqual(['not_a_command']);
    await transport.close();
  });
});

describe('the way to the peer', () => {
  /** Carries what comes by WebSocket to the peer. */
  async function startWebSocketDoor(
    subProtocol: string,
  ): Promise<{ readonly url: string; readonly hosts: readonly (string | undefined)[]; readonly close: () => void }> {
    const server = new WebSocketServer({
      host: ADDRESS,
      port: 0,
      path: '/amqp',
      handleProtocols: (offered) => (offered.has(subProtocol) ? subProtocol : false),
    });
    const hosts: (string | undefined)[] = [];
    server.on('connection', (webSocket, { headers }) => {
      hosts.push(headers.host);
      const target = connect(peer.port, ADDRESS);
      const stream = createWebSocketStream(webSocket);
      target.on('error', () => stream.destroy());
      stream.on('error', () => target.destroy());
      target.pipe(stream).pipe(target);
    });
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    return { url: `amqpws://${ADDRESS}:${port}`, hosts, close: () => server.close() };
  }

  async function delivers(config: Record<string, unknown>): Promise<void> {
    await using rig = startRig(amqpTransport({ address: at('accept'), ...config }));
    await rig.append(300);
    await rig.drained();
    expect(rig.runner.status().deliveredTotal).toBe(300);
  }

  it('leads through WebSockets, by the sub-protocol of AMQP', async () => {
    const door = await startWebSocketDoor('amqp');
    await delivers({ url: `${door.url}/amqp` });
    // RFC 6455, section 4.1: with the port, where it is not the default.
    expect(door.hosts).toEqual([door.url.replace('amqpws://', '')]);
    await expect(opened({ url: `${door.url}/elsewhere`, address: 'a' })).rejects.toMatchObject({ code: 'GW_PROTOCOL' });
    door.close();
    const other = await startWebSocketDoor('mqtt');
    await expect(opened({ url: `${other.url}/amqp`, address: 'a' })).rejects.toMatchObject({ code: 'GW_DISCONNECTED' });
    other.close();
  });

  it('is given up where the request for a WebSocket is never answered', async () => {
    const silent = createServer((socket) => socket.on('error', () => {}));
    silent.listen(0, ADDRESS);
    await once(silent, 'listening');
    const { port } = silent.address() as AddressInfo;
    const config = { url: `amqpws://${ADDRESS}:${port}`, address: 'a', connect_timeout_ms: 1000 };
    await expect(opened(config)).rejects.toMatchObject({ code: 'GW_TIMEOUT' });
    silent.close();
  });

  it('may refuse the request for a WebSocket, in which nothing says who asks', async () => {
    const forbidding = createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', () => socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n'));
    });
    forbidding.listen(0, ADDRESS);
    await once(forbidding, 'listening');
    const { port } = forbidding.address() as AddressInfo;
    await expect(opened({ url: `amqpws://${ADDRESS}:${port}`, address: 'a' })).rejects.toMatchObject({
      code: 'GW_UNAUTHORIZED',
      details: { isForTarget: true },
    });
    forbidding.close();
  });

  it('leads through an HTTP proxy', async () => {
    await using proxy = await startHttpProxy(ADDRESS, 200);
    await delivers({ url: peer.url, proxy: { url: proxy.url } });
    const door = await startWebSocketDoor('amqp');
    await delivers({ url: `${door.url}/amqp`, proxy: { url: proxy.url } });
    door.close();
    expect(proxy.connects).toContain(`${ADDRESS}:${peer.port}`);
  });

  it('may stop carrying anything: the silence is noticed, and nothing is lost', async () => {
    await using line = await startTcpProxy({ target: { host: ADDRESS, port: peer.port }, address: ADDRESS });
    const address = at('accept');
    await using rig = startRig(
      amqpTransport({ url: `amqp://${line.address}:${line.port}`, address, idle_timeout_secs: 5 }),
    );
    const sent = await rig.append(50, 'a');
    await rig.drained();
    line.blackHole();
    sent.push(...(await rig.append(50, 'b')));
    await waitFor(() => rig.telemetry.of('endpoint_disconnected').length > 0, { timeoutMs: 20_000, what: 'the loss' });
    expect(rig.telemetry.of('endpoint_disconnected')[0]?.fields['reason']).toContain('silent for 5000 ms');
    line.pass();
    await rig.drained();
    await expect.poll(() => new Set(peer.of('message', address).map(({ body }) => body))).toEqual(new Set(sent));
  });

  it('survives cuts at every byte of the way', async () => {
    await using line = await startTcpProxy({ target: { host: ADDRESS, port: peer.port }, address: ADDRESS });
    const address = at('accept');
    await using rig = startRig(
      amqpTransport({ url: `amqp://${line.address}:${line.port}`, address }),
      'strict',
      hastyClock,
    );
    const sent: string[] = [];
    for (let cut = 0; cut < 12; cut += 1) {
      line.cutAfter(cut % 2 === 0 ? 'up' : 'down', 300 + cut * 97);
      sent.push(...(await rig.append(40, `c${cut}-`)));
      await rig.drained();
    }
    await expect.poll(() => new Set(peer.of('message', address).map(({ body }) => body))).toEqual(new Set(sent));
  });
});

describe('peers that speak nonsense', () => {
  const SASL = Buffer.from('AMQP\x03\x01\x00\x00', 'latin1');
  it.each([
    ['HTTP', Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')],
    ['a frame of four gigabytes', Buffer.concat([SASL, Buffer.from('ffffffff02010000', 'hex')])],
    ['a frame without a size', Buffer.concat([SASL, Buffer.alloc(64)])],
    ['noise', Buffer.concat([SASL, Buffer.from('0000001002010000deadbeefdeadbeef', 'hex')])],
    ['an older AMQP', Buffer.from('AMQP\x00\x00\x09\x01', 'latin1')],
  ])('%s', async (_what, bytes) => {
    const server = createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', () => socket.write(bytes));
    });
    const port = await new Promise<number>((resolve) => {
      server.listen(0, ADDRESS, () => resolve((server.address() as { port: number }).port));
    });
    const transport = amqpTransport({ url: `amqp://${ADDRESS}:${port}`, address: 'a', connect_timeout_ms: 2000 });
    await expect(transport.open(NEVER)).rejects.toMatchObject({ code: 'GW_PROTOCOL' });
    server.close();
  });

  it('gives up a peer that is silent', async () => {
    const server = createServer((socket) => void socket.on('error', () => {}).resume());
    const port = await new Promise<number>((resolve) => {
      server.listen(0, ADDRESS, () => resolve((server.address() as { port: number }).port));
    });
    const transport = amqpTransport({ url: `amqp://${ADDRESS}:${port}`, address: 'a', connect_timeout_ms: 500 });
    await expect(transport.open(NEVER)).rejects.toMatchObject({ code: 'GW_TIMEOUT' });
    server.close();
  });
});
