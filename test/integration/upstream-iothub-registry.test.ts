// Leaf devices that get their identities in the registry of a hub: a second daemon, watched by the SDKs of a back end.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { iotHubUpstreamConfig } from '../../modules/upstream-iothub/config.ts';
import { createIotHubTransport } from '../../modules/upstream-iothub/transport.ts';
import type { UpstreamTransport } from '../../src/core/endpoint.ts';
import { createSecretShelves } from '../../src/gateway/secret-shelf.ts';
import { message } from '../support/builders.ts';
import { HUB_HOST_NAME, startHubDaemon, type HubDaemon } from '../support/hub-daemon.ts';
import { startBackEnd, type SdkChild } from '../support/sdk-child.ts';
import { memorySpace } from '../support/state.ts';
import { createTempDir, type TempDir } from '../support/temp-dir.ts';
import { endpointContext, startRig, type UpstreamRig } from '../support/upstream-rig.ts';
import { waitFor } from '../support/wait.ts';

const ADDRESS = '127.0.153.2';
const KEY = Buffer.alloc(32, 5).toString('base64');
const WRONG = `HostName=${HUB_HOST_NAME};SharedAccessKeyName=iothubowner;SharedAccessKey=${KEY}`;

interface Identity {
  readonly deviceId: string;
  readonly generationId: string;
  readonly authentication: { readonly symmetricKey: { readonly primaryKey: string } };
}

interface ReadEvent {
  readonly body: unknown;
  readonly systemProperties: Readonly<Record<string, unknown>>;
}

describe('identities made in the registry', () => {
  let directories: TempDir[];
  let hub: HubDaemon;
  let backEnd: SdkChild;
  const registry = (name: string, ...args: readonly unknown[]): Promise<unknown> =>
    backEnd.call('registry', name, ...args);
  const senders = (): string[] =>
    backEnd.events
      .filter(({ event }) => event === 'event')
      .map(({ data }) => data as ReadEvent)
      .map(
        ({ body, systemProperties }) => `${String(systemProperties['iothub-connection-device-id'])}: ${String(body)}`,
      );

  beforeAll(async () => {
    directories = [createTempDir('registry-hub'), createTempDir('registry-gateway')];
    hub = await startHubDaemon({ address: ADDRESS, directory: directories[0] as TempDir });
    backEnd = startBackEnd({ hub });
    await backEnd.call('openRegistry', hub.owner);
    const authentication = { symmetricKey: { primaryKey: KEY, secondaryKey: KEY } };
    await registry('create', { deviceId: 'plant-7', authentication });
    await backEnd.call('readEvents', { connectionString: hub.events });
  });

  afterAll(async () => {
    await backEnd.kill();
    await hub.kill('SIGKILL');
    for (const directory of directories) directory.remove();
  });

  function transport(protocol: 'mqtt' | 'amqp', space = memorySpace(), policy = hub.owner): UpstreamTransport {
    const config = iotHubUpstreamConfig.parse({
      host_name: HUB_HOST_NAME,
      device_id: 'plant-7',
      shared_access_key: KEY,
      gateway_host_name: ADDRESS,
      ca: hub.authority,
      protocol,
      leaf_devices: { identity: 'registry', registry: policy, ...(protocol === 'mqtt' && { per_device: true }) },
    });
    const dataDirectory = (directories[1] as TempDir).file('data');
    const secrets = createSecretShelves(space, { dataDirectory, env: {} })('$upstream');
    return createIotHubTransport(config, { ...endpointContext(), secrets });
  }

  async function append(rig: UpstreamRig, ...texts: string[]): Promise<void> {
    await rig.outbox.append(
      texts.map((text) => ({ message: message({ device: text.split(' ')[0] ?? '', text }), queues: [] })),
    );
  }

  it.each(['mqtt', 'amqp'] as const)(
    'at first sight, over %s; kept sealed; fetched where there was one',
    async (protocol) => {
      const names = ['new', 'other', 'there'].map((name) => `${protocol}-${name}`);
      const there = (await registry('create', { deviceId: `${protocol}-there` })) as Identity;
      const space = memorySpace();
      const first = names.flatMap((name) => [`${name} 1`, `${name} 2`]);
      {
        await using rig = startRig(transport(protocol, space));
        await append(rig, ...first, 'gateway-1 1');
        await rig.drained();
      }
      const wanted = first.map((text) => `${text.split(' ')[0]}: ${text}`);
      await waitFor(() => wanted.every((one) => senders().includes(one)));
      expect(senders()).toContain('plant-7: gateway-1 1');
      expect(await registry('get', `${protocol}-there`)).toMatchObject({ generationId: there.generationId });
      const { authentication } = (await registry('get', `${protocol}-new`)) as Identity;
      let kept = '';
      for await (const [key, value] of space.entries()) kept += `${key} ${Buffer.from(value).toString()}\n`;
      expect(kept.split('\n').filter((line) => / sealed:1:/.test(line))).toHaveLength(3);
      expect(kept).not.toContain(authentication.symmetricKey.primaryKey);
      // The next start needs no registry.
      await using again = startRig(transport(protocol, space, WRONG));
      await append(again, `${protocol}-new 3`);
      await again.drained();
      await waitFor(() => senders().includes(`${protocol}-new: ${protocol}-new 3`));
    },
  );

  it.each(['mqtt', 'amqp'] as const)(
    'are asked for again when the hub has another key by now, over %s',
    async (protocol) => {
      const space = memorySpace();
      const device = `${protocol}-changed`;
      {
        await using rig = startRig(transport(protocol, space));
        await append(rig, `${device} 1`);
        await rig.drained();
      }
      await registry('update', {
        deviceId: device,
        authentication: { symmetricKey: { primaryKey: KEY, secondaryKey: KEY } },
      });
      await using rig = startRig(transport(protocol, space));
      await append(rig, `${device} 2`);
      await rig.drained();
      await waitFor(() => senders().includes(`${device}: ${device} 2`));
    },
  );

  it('are refused with the reason, while the gateway goes on, and nothing goes under another name', async () => {
    await using rig = startRig(transport('amqp', memorySpace(), WRONG));
    await append(rig, 'nobody 1', 'gateway-1 2');
    await waitFor(() => senders().includes('plant-7: gateway-1 2'));
    await waitFor(() => rig.runner.status().pausedReason !== undefined);
    expect(rig.runner.health()).toMatchObject({
      status: 'degraded',
      reason: expect.stringMatching(
        /^Messages of nobody are held back: The registry of hub\.fieldpost\.test gave no identity for device "nobody" \(401.*The policy "iothubowner" needs the rights/,
      ) as string,
    });
    expect(senders().filter((one) => one.includes('nobody'))).toEqual([]);
    expect(rig.outbox.queue('$upstream').stats().messages).toBe(1);
  });
});
