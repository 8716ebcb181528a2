// The doors on real sockets: TLS with both kinds of keys, WebSockets by `ws`, requests by `https`.

import { once } from 'node:events';
import { request } from 'node:https';
import { connect as connectTcp, createServer } from 'node:net';
import { connect as connectTls, type ConnectionOptions, type TLSSocket } from 'node:tls';
import { readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { SystemClock } from '../../../../src/platform/clock.ts';
import { openPki, type Pki } from '../../../../src/platform/pki.ts';
import { createSealer } from '../../../../src/platform/sealing.ts';
import { silentLogger } from '../../../../src/observe/logger.ts';
import {
  hubDoors,
  type DoorConnection,
  type HubDoorsOptions,
  type HubDoorsService,
} from '../../../../src/wire/hub-doors.ts';
import { createHubDoors } from '../../../../src/wire/hub-listeners.ts';
import { createAuthority } from '../../../support/certificates.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { createTempDir, type TempDir } from '../../../support/temp-dir.ts';
import { waitFor } from '../../../support/wait.ts';

const ADDRESS = '127.0.96.1';
let dir: TempDir;
let pki: Pki;
let ca: string;
let open: HubDoorsService[] = [];

beforeAll(async () => {
  dir = createTempDir('doors');
  const nowMs = Date.now();
  pki = await openPki({
    sealer: createSealer(Buffer.alloc(32, 7)),
    dataDirectory: dir.path,
    hostName: 'hub.local',
    names: [ADDRESS],
    builtAtMs: nowMs,
    wallMs: nowMs,
  });
  ca = readFileSync(pki.caPath, 'utf8');
});
afterAll(() => dir.remove());
afterEach(async () => {
  await Promise.all(open.map((doors) => doors.close()));
  open = [];
});

interface Rig {
  readonly doors: HubDoorsService;
  readonly taken: DoorConnection[];
  readonly refused: string[];
}

interface RigOptions extends Partial<HubDoorsOptions> {
  /** Nobody serves until this resolves; it is called by the first client of each protocol. */
  readonly load?: () => Promise<void>;
}

async function rig({ load, ...more }: RigOptions = {}): Promise<Rig> {
  const refused: string[] = [];
  const doors = createHubDoors({
    address: ADDRESS,
    ports: { mqtts: 0, amqps: 0, https: 0, amqp: 0 },
    certificates: pki.certificates,
    maxHandshakesPerSec: 1000,
    clock: new SystemClock(),
    log: silentLogger,
    reportRefusal: (reason) => void refused.push(reason),
    ...more,
  });
  open.push(doors);
  const taken: DoorConnection[] = [];
  const echo = (connection: DoorConnection): void => {
    taken.push(connection);
    connection.stream.on('error', () => {});
    connection.stream.on('data', (data: Buffer) => connection.stream.write(data));
  };
  const heads = hubDoors(doors);
  const serve = {
    mqtt: () => heads.serve('mqtt', echo),
    amqp: () => heads.serve('amqp', echo),
    https: () =>
      heads.serveHttp((incoming, response) => {
        response.end(`${incoming.method} ${incoming.url} ${incoming.headers['x-name']?.length}`);
      }),
  };
  for (const protocol of ['mqtt', 'amqp', 'https'] as const) {
    if (load === undefined) await serve[protocol]();
    else await doors.expect(protocol, () => load().then(serve[protocol]));
  }
  return { doors, taken, refused };
}

function get(port: number, path: string, headers: Readonly<Record<string, string>> = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { host: ADDRESS, port, path, ca, servername: 'hub.local', agent: false, headers };
    const sent = request(options, (response) => {
      let text = '';
      response.on('data', (data: Buffer) => (text += data.toString()));
      response.on('end', () => resolve(text));
    });
    sent.on('error', reject);
    sent.end();
  });
}

function portOf(doors: HubDoorsService, door: 'mqtts' | 'amqps' | 'https' | 'amqp'): number {
  const bound = doors.addressOf(door);
  if (bound === undefined) throw new Error(`${door} is closed`);
  return bound.port;
}

async function tls(port: number, more: ConnectionOptions = {}): Promise<TLSSocket> {
  const socket = connectTls({ host: ADDRESS, port, servername: 'hub.local', ca, ...more });
  await once(socket, 'secureConnect');
  return socket;
}

async function echoed(socket: TLSSocket | ReturnType<typeof connectTcp>, text: string): Promise<string> {
  socket.write(text);
  const [data] = (await once(socket, 'data')) as [Buffer];
  return data.toString();
}

function webSocket(port: number, path: string, protocols: readonly string[]): Promise<WebSocket> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`wss://${ADDRESS}:${port}${path}`, [...protocols], { ca });
    socket.on('open', () => resolve(socket));
    socket.on('error', reject);
  });
}

describe('the doors', () => {
  it('carry bytes of MQTT and AMQP over TLS 1.2 and 1.3, and tell who is there', async () => {
    const { doors, taken } = await rig();
    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
      for (const door of ['mqtts', 'amqps'] as const) {
        const socket = await tls(portOf(doors, door), { minVersion: version, maxVersion: version });
        expect(await echoed(socket, 'ping')).toBe('ping');
        expect(taken.at(-1)).toMatchObject({
          protocol: door === 'mqtts' ? 'mqtt' : 'amqp',
          isPlaintext: false,
          serverName: 'hub.local',
          remoteAddress: '127.0.0.1',
          certificateChain: [],
        });
        socket.destroy();
      }
    }
    await waitFor(() => doors.counts().connections === 0);
  });

  it('have a certificate for clients that know RSA only and for those that know ECDSA only', async () => {
    const { doors } = await rig();
    for (const [ciphers, kind] of [
      ['ECDHE-RSA-AES128-GCM-SHA256', 'rsa'],
      ['ECDHE-RSA-AES256-SHA384', 'rsa'],
      ['ECDHE-ECDSA-AES128-GCM-SHA256', 'ec'],
    ] as const) {
      const socket = await tls(portOf(doors, 'mqtts'), { ciphers, maxVersion: 'TLSv1.2' });
      expect(socket.getPeerX509Certificate()?.publicKey.asymmetricKeyType).toBe(kind);
      socket.destroy();
    }
  });

  it('refuse TLS 1.1 and what is no TLS, and count it', async () => {
    const { doors, refused } = await rig();
    const old = { minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' } as const;
    await expect(tls(portOf(doors, 'mqtts'), old)).rejects.toThrow(/alert|version|closed|hang/i);
    const plain = connectTcp(portOf(doors, 'amqps'), ADDRESS);
    plain.write('GET / HTTP/1.1\r\n\r\n');
    await once(plain, 'close');
    await waitFor(() => refused.filter((reason) => reason === 'tls_handshake').length === 2);
  });

  it("pass on a client's certificate with its chain, whoever signed it", async () => {
    const { doors, taken } = await rig();
    const authority = await createAuthority(dir.path, 'devices');
    const pair = await authority.issue({ name: 'device-1' });
    const chain = `${pair.certificate}${authority.certificate}`;
    for (const door of ['mqtts', 'amqps'] as const) {
      const socket = await tls(portOf(doors, door), { cert: chain, key: pair.key });
      await waitFor(() => taken.length > 0);
      const [leaf, issuer, ...rest] = taken.pop()?.certificateChain ?? [];
      expect(Buffer.from(leaf ?? []).toString('base64')).toBe(pair.certificate.replaceAll(/-----.*-----|\s/g, ''));
      expect(Buffer.from(issuer ?? []).toString('base64')).toBe(
        authority.certificate.replaceAll(/-----.*-----|\s/g, ''),
      );
      expect(rest).toEqual([]);
      socket.destroy();
    }
  });

  it('carry WebSockets by path and sub-protocol, in the spelling of the client', async () => {
    const { doors, taken } = await rig();
    for (const [path, protocol, kind] of [
      ['/$iothub/websocket', 'mqtt', 'mqtt-ws'],
      ['/$iothub/websocket?iothub-no-client-cert=true', 'MQTT', 'mqtt-ws'],
      ['/%24iothub/websocket', 'AMQPWSB10', 'amqp-ws'],
      ['/$servicebus/websocket', 'AMQPWSB10', 'amqp-ws'],
    ] as const) {
      const socket = await webSocket(portOf(doors, 'https'), path, ['other', protocol]);
      expect(socket.protocol).toBe(protocol);
      const text = 'x'.repeat(200_000);
      socket.send(Buffer.from(text));
      let back = '';
      socket.on('message', (data: Buffer) => (back += data.toString()));
      await waitFor(() => back.length === text.length);
      expect(taken.at(-1)?.protocol).toBe(kind);
      taken.at(-1)?.destroy();
      await once(socket, 'close');
    }
  });

  it('gather small writes into one frame, and end a WebSocket that sends text', async () => {
    const { doors, taken } = await rig();
    const socket = await webSocket(portOf(doors, 'https'), '/$iothub/websocket', ['mqtt']);
    const frames: string[] = [];
    socket.on('message', (data: Buffer) => frames.push(data.toString()));
    await waitFor(() => taken.length === 1);
    for (const part of ['a', 'b', 'c']) taken[0]?.stream.write(part);
    await waitFor(() => frames.length > 0);
    expect(frames).toEqual(['abc']);
    socket.send('text');
    const [code] = (await once(socket, 'close')) as [number];
    expect(code).toBe(1003);
    await waitFor(() => taken[0]?.stream.destroyed);
  });

  it.each([
    ['/other', ['mqtt'], 404],
    ['/$iothub/websocket', ['soap'], 400],
    ['/$servicebus/websocket', ['mqtt'], 400],
    ['/$iothub/websocket', [], 400],
  ])('refuse a WebSocket on %s for %j', async (path, protocols, status) => {
    const { doors, refused } = await rig();
    await expect(webSocket(portOf(doors, 'https'), path, protocols)).rejects.toThrow(String(status));
    expect(refused).toEqual(['websocket_handshake']);
  });

  it('take requests over HTTPS, with long headers', async () => {
    const { doors } = await rig();
    const body = await get(portOf(doors, 'https'), '/devices?top=1', { 'x-name': 'n'.repeat(40_000) });
    expect(body).toBe('GET /devices?top=1 40000');
  });

  it('carry AMQP without TLS on loopback', async () => {
    const { doors, taken } = await rig();
    const socket = connectTcp(portOf(doors, 'amqp'), ADDRESS);
    expect(await echoed(socket, 'AMQP')).toBe('AMQP');
    expect(taken[0]).toMatchObject({ protocol: 'amqp', isPlaintext: true, certificateChain: [] });
    socket.destroy();
    const outside = await rig({ address: '0.0.0.0' });
    expect(outside.doors.addressOf('amqp')?.address).toBe('127.0.0.1');
  });

  it('let clients of every kind wait for a head that is loaded for the first of them', async () => {
    const waiting: (() => void)[] = [];
    const load = (): Promise<void> => new Promise((resolve) => waiting.push(resolve));
    const { doors, taken } = await rig({ areCertificatesProven: true, load });
    const https = portOf(doors, 'https');
    const mqtt = await tls(portOf(doors, 'mqtts'));
    const amqp = connectTcp(portOf(doors, 'amqp'), ADDRESS);
    const webMqtt = await webSocket(https, '/$iothub/websocket', ['mqtt']);
    const answers = [
      echoed(mqtt, 'mqtt'),
      echoed(amqp, 'amqp'),
      once(webMqtt, 'message').then(([data]) => (data as Buffer).toString()),
      get(https, '/devices'),
    ];
    webMqtt.send(Buffer.from('mqtt-ws'));
    // One that does not wait is nobody's.
    const gone = await tls(portOf(doors, 'mqtts'));
    await waitFor(() => waiting.length === 5);
    gone.destroy();
    await waitFor(() => doors.counts().connections === 4);
    expect(taken).toEqual([]);
    for (const loaded of waiting) loaded();
    expect(await Promise.all(answers)).toEqual(['mqtt', 'amqp', 'mqtt-ws', 'GET /devices undefined']);
    expect(taken.map(({ protocol }) => protocol).sort()).toEqual(['amqp', 'mqtt', 'mqtt-ws']);
    expect(await echoed(await tls(portOf(doors, 'mqtts')), 'later')).toBe('later');
    expect(waiting).toHaveLength(5);
    for (const socket of [mqtt, amqp]) socket.destroy();
    webMqtt.terminate();
  });

  it('take new certificates without ending sessions', async () => {
    const { doors } = await rig();
    const port = portOf(doors, 'mqtts');
    const before = await tls(port);
    const old = before.getPeerX509Certificate()?.serialNumber;
    const renewed = await openPki({
      sealer: createSealer(Buffer.alloc(32, 7)),
      dataDirectory: dir.path,
      hostName: 'hub.local',
      names: [ADDRESS, 'new.local'],
      builtAtMs: Date.now(),
      wallMs: Date.now(),
    });
    doors.replaceCertificates(renewed.certificates);
    const after = await tls(port, { servername: 'new.local' });
    expect(after.getPeerX509Certificate()?.serialNumber).not.toBe(old);
    expect(await echoed(before, 'still here')).toBe('still here');
    expect(() => doors.replaceCertificates([{ certificate: 'x', key: 'y' }])).toThrow(
      expect.objectContaining({ code: 'GW_TLS' }),
    );
    expect(await echoed(await tls(port), 'ok')).toBe('ok');
    for (const socket of [before, after]) socket.destroy();
  });

  it('refuse certificates that cannot be used also while nobody has come', async () => {
    const { doors } = await rig({ areCertificatesProven: true });
    expect(() => doors.replaceCertificates([{ certificate: 'x', key: 'y' }])).toThrow(
      expect.objectContaining({ code: 'GW_TLS' }),
    );
    expect(await echoed(await tls(portOf(doors, 'mqtts')), 'ok')).toBe('ok');
  });

  it('let in no more than their rate, and everybody in the end', async () => {
    const { doors, taken } = await rig({ maxHandshakesPerSec: 20 });
    const port = portOf(doors, 'mqtts');
    const startMs = performance.now();
    const sockets = await Promise.all(Array.from({ length: 21 }, () => tls(port)));
    expect(performance.now() - startMs).toBeGreaterThan(900);
    await waitFor(() => taken.length === 21);
    for (const socket of sockets) socket.destroy();
  });

  it('open the other ports when one is taken, say so, and try again', async () => {
    const taken = createServer();
    taken.listen(0, ADDRESS);
    await once(taken, 'listening');
    const bound = taken.address();
    const port = typeof bound === 'object' && bound !== null ? bound.port : 0;
    const clock = new ManualClock();
    const { doors } = await rig({ ports: { mqtts: port, amqps: 0, https: 0 }, clock });
    expect(doors.healthOf('mqtt')).toMatchObject({
      status: 'degraded',
      reason: expect.stringMatching(/another program does.*hub\.mqtts_port/s) as string,
    });
    expect(doors.healthOf('amqp')).toEqual({ status: 'running' });
    expect(doors.healthOf('https')).toEqual({ status: 'running' });
    (await tls(portOf(doors, 'amqps'))).destroy();
    taken.close();
    await once(taken, 'close');
    clock.advance(10_000);
    await waitFor(() => doors.healthOf('mqtt').status === 'running');
    expect(await echoed(await tls(port), 'ping')).toBe('ping');
  });

  it('end everything when they are closed, also what waits or never said a word', async () => {
    const { doors } = await rig({ maxHandshakesPerSec: 1 });
    const silent = [connectTcp(portOf(doors, 'mqtts'), ADDRESS), connectTcp(portOf(doors, 'https'), ADDRESS)];
    const ended = silent.map((socket) => {
      socket.on('error', () => {});
      return once(socket, 'close');
    });
    await waitFor(() => doors.counts().connections === 2);
    await doors.close();
    await Promise.all(ended);
    await waitFor(() => doors.counts().connections === 0);
    expect(doors.counts().waiting).toBe(0);
  });
});

describe('a peer that says nothing', () => {
  it.each(['mqtts', 'amqps', 'https'] as const)('is ended at the door of %s', async (door) => {
    const clock = new ManualClock();
    const { doors, refused } = await rig({ clock });
    const socket = connectTcp({ host: ADDRESS, port: portOf(doors, door) });
    const ended = once(socket, 'close');
    socket.on('error', () => {});
    await waitFor(() => doors.counts().connections === 1);
    // Past the gate, which lets it in at its rate.
    await waitFor(() => {
      clock.advance(1000);
      return refused.includes('silent');
    });
    await ended;
    await waitFor(() => doors.counts().connections === 0);
  });

  it('is ended after TLS too, where it asks for nothing over HTTPS', async () => {
    const clock = new ManualClock();
    const { doors, refused } = await rig({ clock });
    const socket = connectTls({ host: ADDRESS, port: portOf(doors, 'https'), ca, servername: 'hub.local' });
    socket.on('error', () => {});
    const ended = once(socket, 'close');
    await waitFor(() => {
      clock.advance(10);
      return socket.authorized;
    });
    await waitFor(() => {
      clock.advance(1000);
      return refused.includes('silent');
    });
    await ended;
  });

  it('stays once it has said something', async () => {
    const clock = new ManualClock();
    const { doors, taken, refused } = await rig({ clock });
    const socket = connectTls({ host: ADDRESS, port: portOf(doors, 'mqtts'), ca, servername: 'hub.local' });
    socket.on('error', () => {});
    await waitFor(() => {
      clock.advance(10);
      return taken.length === 1;
    });
    clock.advance(100_000);
    socket.write('still here');
    const [echoed] = (await once(socket, 'data')) as [Buffer];
    expect(echoed.toString()).toBe('still here');
    expect(refused).toEqual([]);
    socket.destroy();
  });
});
