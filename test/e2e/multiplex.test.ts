// Fifty leaf devices of all kinds on one TCP connection to the cloud, which is a second daemon. The connection is cut in every way
// that a connection ends, and cloud and gateway are killed; every message is accounted for at a consumer of the cloud's events.

import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { GatewayStatus } from '../../src/core/admin.ts';
import { startTcpProxy, type TcpProxy } from '../sim/tcp-proxy.ts';
import { run } from '../support/command.ts';
import { EventAccount, senderOf, type HubEvent } from '../support/event-account.ts';
import { AMQPS_PORT, startHubDaemon, type HubDaemon } from '../support/hub-daemon.ts';
import { startBackEnd, type SdkChild } from '../support/sdk-child.ts';
import { createTempDir, type TempDir } from '../support/temp-dir.ts';
import { derivedKey, GATEWAY_ID, GATEWAY_KEY, transparentGateway } from '../support/transparent-rig.ts';
import { waitFor } from '../support/wait.ts';
import { startMixedField, type MixedField } from './mixed-field.ts';

const FULL = process.env['FIELDPOST_FULL'] === '1';
const CLOUD = '127.0.164.1';
const EDGE = '127.0.164.2';
/** Messages that may be unanswered when the connection ends: as many come twice at most. */
const WINDOW = 64;
const CUTS = ['closed', 'reset in a frame', 'refused', 'silent'] as const;

interface PolledBody {
  readonly device: string;
  readonly seq: number;
}

/** Who sent it by what it says itself. */
const nameIn = ({ body }: HubEvent): string =>
  typeof body === 'string' ? (body.split('.')[0] ?? '') : (body as PolledBody).device;

/** Times that a connection to the cloud was lost, as the gateway says. */
const lossesOf = (gateway: HubDaemon): number => gateway.log().split('"event":"endpoint_disconnected"').length - 1;

describe('fifty leaf devices on one connection', () => {
  const stack = new AsyncDisposableStack();
  const inCloud = stack.use(new EventAccount());
  const atGateway = stack.use(new EventAccount());
  let field: MixedField;
  let directories: { readonly cloud: TempDir; readonly gateway: TempDir };
  let cloud: HubDaemon;
  let gateway: HubDaemon;
  let proxy: TcpProxy;
  let backEnd: SdkChild;
  let ends = 0;

  const eventsOf = (account: EventAccount): HubEvent[] =>
    account.events().filter((event) => senderOf(event) !== GATEWAY_ID);
  const idsOf = (account: EventAccount): Set<string> => new Set(eventsOf(account).map(({ messageId }) => messageId));

  /** What the system shows of the gateway's connections to its cloud. */
  async function connections(): Promise<string[]> {
    const shown = await run('ss', ['-Htnp', 'state', 'established', 'dst', `${CLOUD}:${proxy.port}`]);
    return shown.split('\n').filter((line) => line.includes(`pid=${gateway.pid},`));
  }

  async function startCloud(): Promise<void> {
    cloud = stack.use(await startHubDaemon({ address: CLOUD, directory: directories.cloud, built: true }));
    await inCloud.read(cloud);
  }

  async function startGateway(): Promise<void> {
    const options = transparentGateway({
      address: EDGE,
      directory: directories.gateway,
      built: true,
      dials: CLOUD,
      ca: cloud.authority,
      adapters: field.adapters,
      upstream: {
        port: proxy.port,
        protocol: 'amqp',
        window: WINDOW,
        keepalive_secs: 5,
        // What the proxy swallowed of a handshake does not come again, as it would on a line.
        connect_timeout_ms: 3000,
      },
    });
    gateway = stack.use(await startHubDaemon(options));
    await atGateway.read(gateway);
  }

  /** Something that was stored at the gateway from now on is in the cloud, over one connection. */
  async function isThrough(what: string): Promise<void> {
    const known = idsOf(atGateway);
    const isNew = ({ messageId }: HubEvent): boolean => !known.has(messageId);
    await waitFor(
      () => {
        const fresh = new Set(
          eventsOf(atGateway)
            .filter(isNew)
            .map(({ messageId }) => messageId),
        );
        return eventsOf(inCloud).some(({ messageId }) => fresh.has(messageId));
      },
      { timeoutMs: 30_000, everyMs: 100, what },
    );
    // What its reader was told late may have gone before the connection was lost.
    await waitFor(async () => (await connections()).length > 0, { timeoutMs: 30_000, what: 'the connection' });
    expect(await connections()).toHaveLength(1);
  }

  beforeAll(async () => {
    directories = {
      cloud: stack.use(createTempDir('multiplex-cloud')),
      gateway: stack.use(createTempDir('multiplex-gateway')),
    };
    field = stack.use(await startMixedField(EDGE, FULL ? 4 : 2));
    await startCloud();
    proxy = stack.use(await startTcpProxy({ target: { host: CLOUD, port: AMQPS_PORT }, address: CLOUD }));
    backEnd = stack.use(startBackEnd({ hub: cloud }));
    await backEnd.call('openRegistry', cloud.owner);
    await backEnd.call('useClient', cloud.owner);
    const identities = [GATEWAY_ID, ...field.devices].map((deviceId) => {
      const primaryKey = deviceId === GATEWAY_ID ? GATEWAY_KEY : derivedKey(deviceId);
      return { deviceId, authentication: { symmetricKey: { primaryKey, secondaryKey: primaryKey } } };
    });
    await backEnd.call('registry', 'addDevices', identities);
    await startGateway();
    field.startSending(gateway, derivedKey);
  });

  afterAll(() => stack.disposeAsync());

  it('has them all under their own identities', async () => {
    expect(field.devices).toHaveLength(50);
    await waitFor(() => new Set(eventsOf(inCloud).map(senderOf)).size === 50, {
      timeoutMs: 30_000,
      everyMs: 100,
      what: 'a message of each',
    });
    expect(await connections()).toHaveLength(1);
  });

  it('has a coil written by a direct method', async () => {
    const relay = async (): Promise<string> => {
      const { host, port } = field.plcs;
      const shown = await run('mbpoll', ['-0', '-1', '-t', '0', '-a', '1', '-r', '2', '-p', String(port), host]);
      return /^\[2\]:\s*(\d)/m.exec(shown)?.[1] ?? shown;
    };
    expect(await relay()).toBe('0');
    const call = { methodName: 'write', payload: { values: { relay: true } }, responseTimeoutInSeconds: 10 };
    expect(await backEnd.call('invoke', 'plc-3', call)).toEqual({ status: 200, payload: { values: { relay: true } } });
    expect(await relay()).toBe('1');
  });

  it.each(Array.from({ length: FULL ? 10 : CUTS.length }, (_, index) => CUTS[index % CUTS.length] ?? 'closed'))(
    'comes back after its connection was cut (%s)',
    async (how) => {
      const losses = lossesOf(gateway);
      if (how === 'closed') proxy.hangUp();
      if (how === 'reset in a frame') proxy.cutAfter('up', 2000);
      if (how === 'refused') await proxy.refuse();
      if (how === 'silent') proxy.blackHole();
      ends += 1;
      await waitFor(() => lossesOf(gateway) > losses, { timeoutMs: 30_000, what: 'the end of the connection' });
      if (how === 'refused') {
        const before = field.acknowledged.length;
        await waitFor(() => field.acknowledged.length > before + 50, { timeoutMs: 20_000 });
        await proxy.listen();
      }
      proxy.pass();
      await isThrough('what came after the cut');
    },
  );

  // A trial takes half a minute at least.
  it.each(FULL ? [30] : [])(
    'comes back after a configuration that cut it off, unconfirmed for %i s',
    async (trialSecs) => {
      const invoke = (methodName: string, payload?: unknown): Promise<unknown> =>
        backEnd.call('invoke', GATEWAY_ID, { methodName, payload, responseTimeoutInSeconds: 10 });
      const { payload: status } = (await invoke('status')) as { readonly payload: GatewayStatus };
      const base = status.config.generation;
      const text = readFileSync(gateway.configPath, 'utf8').replace(`port: ${proxy.port}`, 'port: 9');
      expect(await invoke('applyConfig', { text, base, trial_secs: trialSecs })).toMatchObject({ status: 200 });
      await waitFor(async () => (await connections()).length === 0, { what: 'the configuration to be tried' });
      ends += 1;
      await waitFor(async () => (await connections()).length === 1, { timeoutMs: 45_000, what: 'it to be taken back' });
      await isThrough('what came after the trial');
      const logs = await invoke('getLogs', { contains: 'config_reverted' });
      expect(logs).toMatchObject({
        payload: { lines: [expect.stringContaining('Nobody confirmed the trial in time.')] },
      });
      expect(readFileSync(gateway.configPath, 'utf8')).toContain(`port: ${proxy.port}`);
    },
  );

  it('comes back when the cloud was killed, and the gateway meanwhile', async () => {
    await cloud.kill('SIGKILL');
    const before = field.acknowledged.length;
    await waitFor(() => field.acknowledged.length > before + 100, { timeoutMs: 20_000 });
    await gateway.kill('SIGKILL');
    await startGateway();
    await startCloud();
    ends += 2;
    await isThrough('what came after the kills');
  });

  it('has lost nothing, and what came twice is known by its id', async () => {
    await field.stopSending();
    const stored = eventsOf(atGateway);
    const missing = (): string[] => {
      const ids = idsOf(inCloud);
      return [...new Set(stored.map(({ messageId }) => messageId))].filter((id) => !ids.has(id));
    };
    await waitFor(() => missing().length === 0, { timeoutMs: 90_000, everyMs: 200 }).catch(() => {});
    expect(missing()).toEqual([]);
    const events = eventsOf(inCloud);
    const bodies = new Set(events.map(({ body }) => body));
    expect(field.acknowledged.filter((body) => !bodies.has(body))).toEqual([]);
    for (const event of events) expect(nameIn(event)).toBe(senderOf(event));
    for (const device of field.polled) {
      const seqs = new Set(
        events.filter((event) => senderOf(event) === device).map(({ body }) => (body as PolledBody).seq),
      );
      expect(Math.max(...seqs), device).toBe(seqs.size);
    }
    const textOf = ({ body }: HubEvent): string => JSON.stringify(body);
    const byId = new Map(events.map((event) => [event.messageId, event]));
    expect(events.filter((event) => textOf(event) !== textOf(byId.get(event.messageId) ?? event))).toEqual([]);
    expect(events.length - byId.size).toBeLessThanOrEqual(ends * WINDOW);
    // A sensor that the killed gateway left without its PUBACK sends again, by no id: one message each at most.
    const texts = new Map([...byId.values()].map((event) => [textOf(event), event]));
    const resent = [...byId.values()].filter((event) => texts.get(textOf(event)) !== event).map(nameIn);
    expect(resent.filter((name) => !name.startsWith('sensor-'))).toEqual([]);
    expect(new Set(resent).size).toBe(resent.length);
  });
});
