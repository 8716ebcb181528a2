// Policies that change while the daemon runs: who used what they took away is cut off, and nobody else notices.

import { readFileSync, writeFileSync } from 'node:fs';
import rhea from 'rhea';
import { expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { connectAmqp, sasToken, type TestConnection } from '../support/amqp-client.ts';
import { curl } from '../support/curl.ts';
import { deviceConnectionString, HUB_HOST_NAME, startHubDaemon } from '../support/hub-daemon.ts';
import { startBackEnd, startDevice } from '../support/sdk-child.ts';
import { createTempDir } from '../support/temp-dir.ts';
import { waitFor } from '../support/wait.ts';

const ADDRESS = '127.0.108.8';
const PORT = 5672;
const key = (n: number): string => Buffer.alloc(32, n).toString('base64');
const { message: codec } = rhea as unknown as { message: { data_section(bytes: Buffer): unknown } };

it('a change of the policies ends the sessions that used it, and no others', async () => {
  const directory = createTempDir('hub-policies');
  const hub = await startHubDaemon({
    address: ADDRESS,
    directory,
    hub: {
      amqp_port: PORT,
      policies: {
        iothubowner: {
          rights: ['RegistryRead', 'RegistryWrite', 'ServiceConnect', 'DeviceConnect'],
          primary_key: key(1),
        },
        changed: { rights: ['ServiceConnect'], primary_key: key(2), secondary_key: key(3) },
        narrowed: { rights: ['ServiceConnect', 'RegistryRead'], primary_key: key(4) },
        field: { rights: ['DeviceConnect'], primary_key: key(5) },
        kept: { rights: ['ServiceConnect'], primary_key: key(6) },
      },
    },
  });
  await using _hub = hub;
  const token = (policy: string, secret: string): string => sasToken(HUB_HOST_NAME, secret, 3600, policy);
  /** A sender of commands by a policy. */
  async function service(policy: string, secret: string): Promise<TestConnection> {
    const client = await connectAmqp({ host: ADDRESS, port: PORT, hostName: HUB_HOST_NAME });
    expect(await client.putToken(HUB_HOST_NAME, token(policy, secret)), policy).toBe(200);
    return client;
  }
  const owner = `HostName=${HUB_HOST_NAME};SharedAccessKeyName=iothubowner;SharedAccessKey=${key(1)}`;
  await using backEnd = startBackEnd({ hub });
  await backEnd.call('openRegistry', owner);
  for (const deviceId of ['own', 'by-policy']) {
    const authentication = { type: 'sas', symmetricKey: { primaryKey: key(9), secondaryKey: key(8) } };
    await backEnd.call('registry', 'create', { deviceId, authentication });
  }
  await using device = startDevice({ hub });
  await device.call('open', deviceConnectionString('own', key(9)), 'mqtt');
  await device.call('onCommands', 'complete');

  using byPrimary = await service('changed', key(2));
  using bySecondary = await service('changed', key(3));
  using narrowed = await service('narrowed', key(4));
  using kept = await service('kept', key(6));
  using field = await service('field', key(5));
  const links = {
    byPrimary: await byPrimary.sender('/messages/devicebound'),
    bySecondary: await bySecondary.sender('/messages/devicebound'),
    narrowed: await narrowed.sender('/messages/devicebound'),
    kept: await kept.sender('/messages/devicebound'),
    field: await field.sender('/devices/by-policy/messages/events'),
  };
  const isOpen = () => Object.fromEntries(Object.entries(links).map(([name, { link }]) => [name, link.is_open()]));
  const statusOf = async (policy: string, secret: string): Promise<number> => {
    const authorization = `Authorization: ${token(policy, secret)}`;
    return (await curl(hub, '/devices/own?api-version=2021-04-12', ['--header', authorization])).status;
  };
  expect(isOpen()).toEqual({ byPrimary: true, bySecondary: true, narrowed: true, kept: true, field: true });
  expect(await statusOf('narrowed', key(4))).toBe(200);

  // Another primary key, fewer rights, a policy that is gone.
  const config = parse(readFileSync(hub.configPath, 'utf8')) as { hub: { policies: Record<string, object> } };
  const { changed, field: _gone, ...others } = config.hub.policies;
  config.hub.policies = {
    ...others,
    changed: { ...changed, primary_key: key(7) },
    narrowed: { rights: ['RegistryRead'], primary_key: key(4) },
  };
  writeFileSync(hub.configPath, stringify(config));
  process.kill(hub.pid, 'SIGHUP');

  const after = { byPrimary: false, bySecondary: true, narrowed: false, kept: true, field: false };
  // Their tokens are good for an hour.
  await waitFor(() => JSON.stringify(isOpen()) === JSON.stringify(after), { what: 'the end of three links' });
  expect(await links.byPrimary.closed).toMatchObject({ condition: 'amqp:unauthorized-access' });
  expect(await statusOf('narrowed', key(4))).toBe(200);
  expect(await statusOf('kept', key(6))).toBe(401);

  const message = { to: '/devices/own/messages/devicebound', body: codec.data_section(Buffer.from('go')) };
  expect(await links.kept.send(message)).toMatchObject({ outcome: 'accepted' });
  expect(await device.nextEvent('command')).toMatchObject({ body: 'go' });
  expect(device.events.filter(({ event }) => event === 'disconnect')).toEqual([]);
  expect(await byPrimary.putToken(HUB_HOST_NAME, token('changed', key(2)))).toBe(401);
  expect(await byPrimary.putToken(HUB_HOST_NAME, token('changed', key(7)))).toBe(200);
  directory.remove();
});
