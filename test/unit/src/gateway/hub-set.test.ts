// The local hub as the gateway builds it: real listeners, certificates and store, and a head that echoes.

import { once } from 'node:events';
import { readFileSync, unlinkSync } from 'node:fs';
import { connect, type TLSSocket } from 'node:tls';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { hubConfig, hubSchema, type HubConfig } from '../../../../src/config/hub-schema.ts';
import { parseDeviceId } from '../../../../src/core/device.ts';
import type { HeadContext } from '../../../../src/core/hub/head.ts';
import type { HeadDefinition } from '../../../../src/core/module.ts';
import { createDispatcher } from '../../../../src/devices/dispatcher.ts';
import { createDeviceRegistry } from '../../../../src/devices/device-registry.ts';
import { HubSet } from '../../../../src/gateway/hub-set.ts';
import { silentLogger } from '../../../../src/observe/logger.ts';
import { SystemClock } from '../../../../src/platform/clock.ts';
import { systemRandom } from '../../../../src/platform/random.ts';
import { createMemoryOutbox } from '../../../../src/store/memory-outbox.ts';
import { hubDoors } from '../../../../src/wire/hub-doors.ts';
import { createAuthority, type Authority } from '../../../support/certificates.ts';
import { freePort } from '../../../support/free-port.ts';
import { memoryStateStore } from '../../../support/state.ts';
import { createTempDir, type TempDir } from '../../../support/temp-dir.ts';
import { waitFor } from '../../../support/wait.ts';

const ADDRESS = '127.0.96.2';
let dir: TempDir;
let hubs: HubSet | undefined;
let contexts: HeadContext[];

beforeEach(() => {
  dir = createTempDir('hub-set');
  contexts = [];
});
afterEach(async () => {
  await hubs?.stop(AbortSignal.timeout(5000));
  hubs = undefined;
  dir.remove();
});

const echo: HeadDefinition = {
  kind: 'head',
  type: 'mqtt',
  load: () =>
    Promise.resolve((context) => {
      contexts.push(context);
      const doors = hubDoors(context.doors);
      return {
        start: () => doors.serve('mqtt', ({ stream }) => void stream.on('error', () => {}).pipe(stream)),
        stop: () => Promise.resolve(),
        deliver: () => {},
        health: () => doors.healthOf('mqtt'),
      };
    }),
};

async function build(heads: readonly HeadDefinition[] = [echo]): Promise<HubSet> {
  const clock = new SystemClock();
  const telemetry = { emit: () => {} };
  const registry = createDeviceRegistry(clock, telemetry);
  const state = await memoryStateStore();
  hubs = new HubSet({
    dataDirectory: dir.path,
    env: {},
    heads,
    outbox: createMemoryOutbox({
      gatewayId: parseDeviceId('gateway'),
      clock,
      random: systemRandom,
      settings: {
        maxBytes: 1e8,
        maxAgeSecs: 0,
        minFreeBytes: 0,
        whenFull: 'reject',
        commitIntervalMs: 0,
        pollCommitIntervalMs: 0,
      },
      queues: [],
    }),
    ingress: { messages: () => Promise.resolve() },
    registry,
    dispatcher: createDispatcher({
      registry,
      adapterOf: () => undefined,
      commands: state.space('commands'),
      audit: state.space('audit'),
      writeRates: state.space('write-rates'),
      clock,
      telemetry,
    }),
    cloud: () => undefined,
    caughtUp: () => Promise.resolve(),
    onSession: () => {},
    clock,
    random: systemRandom,
    log: silentLogger,
    telemetry,
  });
  return hubs;
}

async function config(more: object = {}): Promise<HubConfig> {
  const [mqtts, amqps, https] = [await freePort(ADDRESS), await freePort(ADDRESS), await freePort(ADDRESS)];
  const values = { enabled: true, address: ADDRESS, mqtts_port: mqtts, amqps_port: amqps, https_port: https, ...more };
  const made = hubConfig(hubSchema.parse(values));
  if (made === undefined) throw new Error('The hub is off.');
  return made;
}

async function echoed(port: number): Promise<string> {
  const ca = readFileSync(dir.file('pki', 'ca.pem'));
  const socket = connect({ host: ADDRESS, port, ca, servername: 'localhost' });
  const closed = new AbortController();
  socket.on('close', () => closed.abort());
  await once(socket, 'secureConnect');
  socket.write('ping');
  const [data] = (await once(socket, 'data', { signal: closed.signal })) as [Buffer];
  socket.destroy();
  return data.toString();
}

/** A connection, and whom the certificate of the server names. */
async function secured(port: number): Promise<{ readonly socket: TLSSocket; readonly subject: string }> {
  const socket = connect({ host: ADDRESS, port, rejectUnauthorized: false });
  await once(socket, 'secureConnect');
  return { socket, subject: String(socket.getPeerCertificate().subject.CN) };
}

const runs = (set: HubSet): boolean => set.parts().every(({ report }) => report.status === 'running');
const at = (set: HubSet) => Object.fromEntries(set.parts().map(({ part, report }) => [part, report.status]));

describe('the hub of a gateway', () => {
  it('is nothing while it is off', async () => {
    const set = await build();
    await set.apply(undefined, AbortSignal.timeout(5000));
    expect(set.parts()).toEqual([]);
    expect(set.hub).toBeUndefined();
  });

  it('opens its doors to its heads, follows its configuration and ends', async () => {
    const set = await build();
    const first = await config();
    await set.apply(first, AbortSignal.timeout(5000));
    await waitFor(() => set.hub !== undefined && runs(set));
    expect(at(set)).toEqual({ hub: 'running', 'hub certificates': 'running', 'hub mqtt': 'running' });
    // A head that nobody has asked for costs nothing.
    expect(contexts).toEqual([]);
    expect(await echoed(first.ports.mqtts)).toBe('ping');
    expect(contexts[0]?.hub.hubs).toMatchObject([
      { hubId: 'hub', hostName: 'localhost', consumerGroups: ['$Default'] },
    ]);
    expect(set.inUse()).toMatchObject({ hub_waiting_handshakes: 0, hub_sessions: 0 });
    const before = set.hub;

    const second = await config({ host_name: 'other.local' });
    await set.apply(second, AbortSignal.timeout(5000));
    await expect(echoed(first.ports.mqtts)).rejects.toThrow(/ECONNREFUSED/);
    await waitFor(() => set.hub !== undefined && runs(set));
    expect(set.hub).not.toBe(before);
    expect(await echoed(second.ports.mqtts)).toBe('ping');
    expect(set.hub?.hubOf('other.local').hostName).toBe('other.local');

    await set.stop(AbortSignal.timeout(5000));
    await expect(echoed(second.ports.mqtts)).rejects.toThrow(/ECONNREFUSED/);
    expect(set.parts()).toEqual([]);
  });

  it('keeps the keys of its policies, and takes those of the configuration before them', async () => {
    const key = Buffer.alloc(32, 9).toString('base64');
    const made = await config({ policies: { service: { rights: ['ServiceConnect'], primary_key: key } } });
    const keysOf = async (set: HubSet) => {
      await set.apply(made, AbortSignal.timeout(5000));
      const hub = await waitFor(() => set.hub);
      const all = await hub.policiesOf('hub').all();
      return Object.fromEntries(all.map(({ name, primaryKey }) => [name, primaryKey]));
    };
    const first = await build();
    const keys = await keysOf(first);
    expect(Object.keys(keys).sort()).toEqual(['device', 'iothubowner', 'registryRead', 'registryReadWrite', 'service']);
    expect(keys['service']).toBe(key);
    await first.stop(AbortSignal.timeout(5000));
    expect(await keysOf(await build())).toEqual(keys);
  });

  it('takes other policies while it runs', async () => {
    const set = await build();
    const made = await config({ policies: { reader: { rights: ['RegistryRead'] } } });
    await set.apply(made, AbortSignal.timeout(5000));
    const hub = await waitFor(() => set.hub);
    const before = await hub.policiesOf('hub').all();
    const policies = [{ name: 'reader', permissions: ['ServiceConnect' as const] }];
    await set.follow({ ...made, policies }, AbortSignal.timeout(5000));
    expect(set.hub).toBe(hub);
    const after = await hub.policiesOf('hub').all();
    const changed = after.filter((policy) => !before.some((one) => JSON.stringify(one) === JSON.stringify(policy)));
    expect(changed).toMatchObject([{ name: 'reader', permissions: ['ServiceConnect'] }]);
    expect(await echoed(made.ports.mqtts)).toBe('ping');
  });

  it('takes other certificates of its own while it runs, and connections stay', async () => {
    const pair = async (name: string): Promise<Authority> => createAuthority(dir.directory(name), name);
    const [first, second] = [await pair('first'), await pair('second')];
    const certificatesOf = (...pairs: readonly Authority[]) =>
      pairs.map(({ certificate, key }) => ({ certificate, key }));
    const set = await build();
    const made = await config({ certificates: certificatesOf(first) });
    await set.apply(made, AbortSignal.timeout(5000));
    const hub = await waitFor(() => set.hub);
    await waitFor(() => runs(set));
    const { socket: open, subject } = await secured(made.ports.mqtts);
    expect(subject).toBe('Fieldpost test first');
    const follow = (certificates: HubConfig['certificates']) => {
      const { certificates: _earlier, ...others } = made;
      return set.follow(certificates === undefined ? others : { ...others, certificates }, AbortSignal.timeout(5000));
    };
    const shown = async (): Promise<string> => {
      const { socket, subject: found } = await secured(made.ports.mqtts);
      socket.destroy();
      return found;
    };

    await follow(certificatesOf(second));
    expect(await shown()).toBe('Fieldpost test second');
    // What OpenSSL does not take leaves those that work.
    await follow([{ certificate: first.certificate, key: second.key }]);
    expect(at(set)).toMatchObject({ 'hub certificates': 'degraded' });
    expect(await shown()).toBe('Fieldpost test second');
    const expired = await first.issue({ name: 'expired', hosts: ['localhost'], days: -1 });
    await follow([{ certificate: expired.certificate, key: expired.key }]);
    expect(at(set)).toMatchObject({ 'hub certificates': 'failed' });
    await follow(undefined);
    expect(await shown()).toBe('localhost');
    expect(at(set)).toMatchObject({ 'hub certificates': 'running' });

    expect(set.hub).toBe(hub);
    open.write('ping');
    expect(String(((await once(open, 'data')) as [Buffer])[0])).toBe('ping');
    open.destroy();
  });

  it('is built anew where its policies cannot be changed in place', async () => {
    const set = await build();
    const made = await config();
    await set.apply(made, AbortSignal.timeout(5000));
    const hub = await waitFor(() => set.hub);
    vi.spyOn(hub, 'policiesOf').mockImplementation(() => {
      throw new Error('The store is away.');
    });
    await set.follow(
      { ...made, policies: [{ name: 'reader', permissions: ['RegistryRead'] }] },
      AbortSignal.timeout(5000),
    );
    const anew = await waitFor(() => set.hub);
    expect(anew).not.toBe(hub);
    expect((await anew.policiesOf('hub').all()).map(({ name }) => name)).toContain('reader');
  });

  it('says what it lacks, and nothing else suffers', async () => {
    const set = await build();
    await set.apply(await config(), AbortSignal.timeout(5000));
    await waitFor(() => set.hub);
    await set.stop(AbortSignal.timeout(5000));
    unlinkSync(dir.file('secrets', 'master.key'));
    const again = await build();
    await again.apply(await config(), AbortSignal.timeout(5000));
    await waitFor(() => again.parts()[0]?.report.status === 'failed');
    expect(again.parts()).toMatchObject([
      { part: 'hub', report: { reason: expect.stringMatching(/master key.*is missing/) as string } },
    ]);
  });

  it('goes on without a head that cannot be built', async () => {
    const broken: HeadDefinition = {
      kind: 'head',
      type: 'amqp',
      load: () => Promise.reject(new Error('No such library.')),
    };
    const set = await build([broken, echo]);
    const made = await config();
    await set.apply(made, AbortSignal.timeout(5000));
    await waitFor(() => set.hub !== undefined && runs(set));
    // It is found out by the first client, who is turned away.
    await expect(echoed(made.ports.amqps)).rejects.toThrow(/aborted|ECONNRESET|disconnected/);
    expect(at(set)).toMatchObject({ 'hub amqp': 'failed', 'hub mqtt': 'running' });
    expect(await echoed(made.ports.mqtts)).toBe('ping');
  });
});
