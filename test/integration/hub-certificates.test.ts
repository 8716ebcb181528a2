// Certificates that change while the daemon runs: authorities of devices come and go, and so do those of the hub itself; who is
// not concerned stays connected.

import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:tls';
import { expect, it } from 'vitest';
import { createAuthority } from '../support/certificates.ts';
import { deviceConnectionString, HUB_HOST_NAME, MQTTS_PORT, startHubDaemon } from '../support/hub-daemon.ts';
import { startBackEnd, startDevice, type SdkChild } from '../support/sdk-child.ts';
import { createTempDir } from '../support/temp-dir.ts';
import { waitFor } from '../support/wait.ts';

const ADDRESS = '127.0.115.1';
const KEY = Buffer.alloc(32, 9).toString('base64');

it('an authority of devices and own certificates of the hub are followed live', async () => {
  const directory = createTempDir('hub-certificates');
  const authority = await createAuthority(directory.directory('devices'));
  const server = await createAuthority(directory.directory('server'));
  await using hub = await startHubDaemon({ address: ADDRESS, directory });
  const plain = readFileSync(hub.configPath, 'utf8');
  /** Lines of the section of the hub, which stands last. */
  const configure = (...lines: readonly string[]): void => {
    writeFileSync(hub.configPath, [plain.trimEnd(), ...lines.map((line) => `  ${line}`), ''].join('\n'));
    process.kill(hub.pid, 'SIGHUP');
  };
  const trusted = `authorities: [!file ${authority.certificatePath}]`;

  await using backEnd = startBackEnd({ hub });
  await backEnd.call('openRegistry', hub.owner);
  await using overMqtt = startDevice({ hub });
  await using overAmqp = startDevice({ hub });
  await using byKey = startDevice({ hub });
  const sas = { type: 'sas', symmetricKey: { primaryKey: KEY, secondaryKey: KEY } };
  await backEnd.call('registry', 'create', { deviceId: 'by-key', authentication: sas });
  await byKey.call('open', deviceConnectionString('by-key', KEY), 'mqtt');
  async function open(device: SdkChild, transport: 'mqtt' | 'amqp'): Promise<void> {
    const { certificatePath: cert, keyPath: key } = await authority.issue({ name: transport });
    await device.call('open', `HostName=${HUB_HOST_NAME};DeviceId=${transport};x509=true`, transport, { cert, key });
    await device.call('neverRetry');
  }
  for (const deviceId of ['mqtt', 'amqp']) {
    await backEnd.call('registry', 'create', { deviceId, authentication: { type: 'certificateAuthority' } });
  }
  await expect(open(overMqtt, 'mqtt')).rejects.toThrow(/Not authorized/);

  configure(trusted);
  await waitFor(() => hub.log().includes('config_applied'), { what: 'the change of the authorities' });
  await open(overMqtt, 'mqtt');
  await open(overAmqp, 'amqp');
  await overMqtt.call('send', { body: 'over MQTT' });
  await overAmqp.call('send', { body: 'over AMQP' });

  const shown = async (): Promise<string> => {
    const socket = connect({ host: ADDRESS, port: MQTTS_PORT, rejectUnauthorized: false });
    await once(socket, 'secureConnect');
    const { fingerprint256 } = socket.getPeerCertificate();
    socket.destroy();
    return fingerprint256;
  };
  const [first, second] = [
    await server.issue({ name: 'first', hosts: [HUB_HOST_NAME] }),
    await server.issue({ name: 'second', hosts: [HUB_HOST_NAME] }),
  ];
  const own = `certificates: [{ certificate: !file ${first.certificatePath}, key: !file ${first.keyPath} }]`;
  const seen = new Set([await shown()]);
  configure(trusted, own);
  await waitFor(async () => !seen.has(await shown()), { what: 'own certificates' });
  seen.add(await shown());
  // As a client of ACME does it.
  writeFileSync(first.certificatePath, second.certificate);
  writeFileSync(first.keyPath, second.key);
  process.kill(hub.pid, 'SIGHUP');
  await waitFor(async () => !seen.has(await shown()), { what: 'renewed certificates' });
  for (const device of [overMqtt, overAmqp, byKey]) {
    await device.call('send', { body: 'still here' });
    expect(device.events.filter(({ event }) => event === 'disconnect')).toEqual([]);
  }

  configure(own);
  // Nothing else would end them for as long as the certificates are valid.
  await Promise.all([overMqtt, overAmqp].map((device) => device.nextEvent('disconnect')));
  await byKey.call('send', { body: 'not concerned' });
  expect(byKey.events.filter(({ event }) => event === 'disconnect')).toEqual([]);
  directory.remove();
});
