// The adapter against pymodbus over TCP, RTU over TCP and TLS, and the certificates of TLS against a server that asks for them.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { ModbusAdapter } from '../../modules/modbus/adapter.ts';
import type { DeviceId } from '../../src/core/device.ts';
import { type ModbusServer, startModbusServer } from '../sim/modbus-server.ts';
import { type Authority, createAuthority, type KeyPair } from '../support/certificates.ts';
import { waitFor } from '../support/wait.ts';
import { adapterFor, NEVER, record, type Recording } from '../unit/modules/modbus/harness.ts';

const HOST = '127.0.42.4';
const METER = 'meter' as DeviceId;
const POINTS = { low: { register: 'holding:10', writable: true }, bits: { register: 'discrete:3' } };

let recording: Recording;
let adapter: ModbusAdapter | undefined;
let peer: ChildProcess | undefined;

beforeEach(() => {
  recording = record();
});

afterEach(async () => {
  await adapter?.stop(NEVER);
  await killPeer();
  adapter = undefined;
});

async function killPeer(): Promise<void> {
  if (peer?.exitCode !== null || peer.signalCode !== null) return;
  peer.kill('SIGKILL');
  await once(peer, 'exit');
}

function start(transport: object, fields: object = {}): ModbusAdapter {
  const devices = { [METER]: { poll_interval_ms: 100, points: POINTS, ...fields } };
  adapter = adapterFor({ transport: { host: HOST, ...transport }, timeout_ms: 500, retries: 0, devices }, recording);
  void adapter.start(NEVER);
  return adapter;
}

async function servePymodbus(kind: string, port: number): Promise<void> {
  const script = join(import.meta.dirname, '..', 'sim', 'pymodbus-server.py');
  peer = spawn('/usr/bin/python3', [script, kind, HOST, String(port)], { stdio: ['pipe', 'pipe', 'inherit'] });
  if (peer.stdout !== null) await once(peer.stdout, 'data');
}

describe.each([
  { kind: 'tcp', port: 15_021 },
  { kind: 'rtu_over_tcp', port: 15_022 },
])('pymodbus over $kind', ({ kind, port }) => {
  it('is read, written and identified', async () => {
    await servePymodbus(kind, port);
    const running = start({ kind, port });
    await waitFor(() => recording.state(METER) === 'good');
    expect(recording.value(METER, 'low')).toBe(10);
    expect(recording.value(METER, 'bits')).toBe(true);
    const write = await running.write?.({ deviceId: METER, point: 'low', value: 4711 }, NEVER);
    expect(write).toEqual({ readBack: 4711, quality: { level: 'good' } });
    expect(await running.identify(METER, NEVER)).toMatchObject({ vendor_name: 'pymodbus' });
  });

  it('may be paused, killed and started again', async () => {
    await servePymodbus(kind, port);
    start({ kind, port }, { circuit_breaker: { probe_interval_min_ms: 100, probe_interval_max_ms: 300 } });
    await waitFor(() => recording.state(METER) === 'good');
    peer?.kill('SIGSTOP');
    await waitFor(() => recording.quality(METER, 'low') === 'bad:timeout');
    peer?.kill('SIGCONT');
    await waitFor(() => recording.state(METER) === 'good');
    await killPeer();
    await waitFor(() => recording.quality(METER, 'low') === 'bad:disconnected');
    await servePymodbus(kind, port);
    await waitFor(() => recording.state(METER) === 'good');
  });
});

describe('TLS', () => {
  let directory: string;
  let authority: Authority;
  let stranger: Authority;
  let client: KeyPair;
  let server: ModbusServer | undefined;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'fieldpost-modbus-tls-'));
    authority = await createAuthority(directory);
    stranger = await createAuthority(directory, 'stranger');
    client = await authority.issue({ name: 'client' });
  });

  afterAll(() => rm(directory, { recursive: true, force: true }));
  afterEach(() => server?.close());

  /** A server that asks for a certificate of the authority. */
  async function serveTls(hosts: readonly string[], options: { days?: number } = {}): Promise<number> {
    const pair = await authority.issue({ name: `server-${hosts.join('-')}-${options.days ?? 30}`, hosts, ...options });
    server = await startModbusServer({
      host: HOST,
      tls: {
        cert: pair.certificate,
        key: pair.key,
        ca: authority.certificate,
        requestCert: true,
        rejectUnauthorized: true,
      },
    });
    server.addDevice(1).set('holding', 10, [10]);
    return server.port;
  }

  const files = (): object => ({
    ca: authority.certificate,
    certificate: client.certificate,
    key: client.key,
  });
  const refused = (): Promise<string> =>
    waitFor(() => (adapter?.health().status === 'degraded' ? adapter.health().reason : undefined));

  it('works with certificates on both sides', async () => {
    start({ kind: 'tls', port: await serveTls([HOST]), ...files() });
    await waitFor(() => recording.state(METER) === 'good');
    expect(recording.value(METER, 'low')).toBe(10);
  });

  it('checks the name that it is told to', async () => {
    const port = await serveTls(['plc.example']);
    start({ kind: 'tls', port, ...files(), server_name: 'plc.example' });
    await waitFor(() => recording.state(METER) === 'good');
    await adapter?.stop(NEVER);
    recording = record();
    start({ kind: 'tls', port, ...files(), server_name: 'other.example' });
    expect(await refused()).toContain('ERR_TLS_CERT_ALTNAME_INVALID');
  });

  it.each([
    {
      what: 'an authority that it does not trust',
      change: () => ({ ca: stranger.certificate }),
      text: 'comes from an authority that is not trusted; set `ca`',
    },
    {
      what: 'a key of another certificate',
      change: () => ({ key: authority.key }),
      text: 'ca, certificate or key cannot be used',
    },
  ])('says what is wrong with $what', async ({ change, text }) => {
    start({ kind: 'tls', port: await serveTls([HOST]), ...files(), ...change() });
    expect(await refused()).toContain(text);
    expect(recording.logs.filter(({ level }) => level === 'warn').map(({ fields }) => fields['code'])).toContain(
      'GW_TLS',
    );
  });

  it('is refused without the certificate that the server asks for', async () => {
    start({ kind: 'tls', port: await serveTls([HOST]), ca: authority.certificate });
    await waitFor(() => recording.quality(METER, 'low')?.startsWith('bad:'));
    expect(await refused()).toMatch(/asks for a client certificate; set `certificate` and `key`/);
  });

  it('does not talk to a server that is not TLS', async () => {
    server = await startModbusServer({ host: HOST });
    start({ kind: 'tls', port: server.port, connect_timeout_ms: 300, ...files() });
    expect(await refused()).toMatch(/did not take the connection within 300 ms|TLS with/);
  });
});
