// `protocol: auto` behind a firewall: a gateway in a network of its own reaches its hub, a second daemon, by a cable on which ports
// are really blocked, and, where they are not, a box looks into the TLS as those of companies do.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { EndpointView } from '../../src/core/admin.ts';
import { createAuthority } from '../support/certificates.ts';
import { startChild, type Child } from '../support/child.ts';
import { AMQPS_PORT, deviceConnectionString, HTTPS_PORT, startHubDaemon } from '../support/hub-daemon.ts';
import { createNetworkNamespace, type NetworkNamespace } from '../support/network-namespace.ts';
import { startBackEnd } from '../support/sdk-child.ts';
import { createTempDir } from '../support/temp-dir.ts';
import { startTlsRecorder } from '../support/tls-recorder.ts';
import { waitFor } from '../support/wait.ts';

const MAIN = join(import.meta.dirname, '..', '..', 'src', 'main.ts');
const KEY = Buffer.alloc(32, 5).toString('base64');
/** Where the hub is behind the box that stands at 443. */
const HIDDEN_PORT = 4443;
const WEB_PORT = 8080;
const WAIT = { timeoutMs: 20_000 };

const ends: (() => PromiseLike<unknown>)[] = [];
let network: NetworkNamespace;
let gateway: Child;
/** Whether the box lets AMQP through. */
let takesAmqp = true;

beforeAll(async () => {
  const directories = [createTempDir('blocked-hub'), createTempDir('blocked-gateway')] as const;
  for (const directory of directories) ends.push(() => Promise.resolve(directory.remove()));
  network = await createNetworkNamespace();
  ends.push(() => network[Symbol.asyncDispose]());
  const { hostAddress: address } = network;
  const hub = await startHubDaemon({
    address,
    directory: directories[0],
    hub: { https_port: HIDDEN_PORT },
    ports: [HIDDEN_PORT, AMQPS_PORT],
  });
  ends.push(() => hub.kill('SIGKILL'));
  const authority = await createAuthority(directories[1].path);
  const box = await startTlsRecorder({
    address,
    port: HTTPS_PORT,
    pair: await authority.issue({ name: 'box', hosts: [address, hub.hostName] }),
    target: { host: address, port: HIDDEN_PORT, ca: hub.authority },
    admits: (head) => takesAmqp || !head.includes('AMQPWSB10'),
  });
  ends.push(() => box[Symbol.asyncDispose]());
  const trusted = directories[1].file('trusted.pem');
  writeFileSync(trusted, `${hub.authority}\n${authority.certificate}`);
  await using backEnd = startBackEnd({ hub: { address, authorityPath: trusted } });
  await backEnd.call('openRegistry', hub.owner);
  const authentication = { symmetricKey: { primaryKey: KEY, secondaryKey: KEY } };
  await backEnd.call('registry', 'create', { deviceId: 'plant-7', authentication });
  // A firewall that says nothing.
  await network.block({ [AMQPS_PORT]: 'drop' });
  gateway = startGateway(directories[1].path, {
    connection_string: deviceConnectionString('plant-7', KEY),
    gateway_host_name: address,
    ca: `${hub.authority}\n${authority.certificate}`,
  });
  ends.push(() => gateway.kill());
});

afterAll(async () => {
  for (const end of ends.toReversed()) await end();
});

function startGateway(directory: string, hub: object): Child {
  const bus = { type: 'modbus', transport: { kind: 'tcp', host: '127.0.0.1', port: 5020 } };
  const points = { voltage: { register: 'input:0', type: 'float32' } };
  const config = {
    gateway: { id: 'plant-7' },
    outbox: { min_free_bytes: 0 },
    web: { port: WEB_PORT },
    adapters: {
      site: { type: 'simulator', listen: { address: '127.0.0.1', port: 5020 } },
      bus: { ...bus, devices: { 'meter-1': { unit_id: 1, poll_interval_ms: 200, points } } },
    },
    upstream: { type: 'iothub', protocol: 'auto', connect_timeout_ms: 1000, ...hub },
  };
  const path = join(directory, 'fieldpost.yaml');
  writeFileSync(path, stringify(config));
  const args = ['run', '--data', join(directory, 'data'), '--config', path];
  // It logs on its standard output.
  return startChild(MAIN, { args, through: network.through, onReport: () => {} });
}

async function get(path: string): Promise<string> {
  return network.run('curl', ['--silent', '--show-error', '--max-time', '5', `http://127.0.0.1:${WEB_PORT}${path}`]);
}

async function upstream(): Promise<EndpointView | undefined> {
  const { endpoints } = JSON.parse(await get('/api/status')) as { readonly endpoints: readonly EndpointView[] };
  return endpoints.find(({ name }) => name === '$upstream');
}

async function delivered(): Promise<number> {
  const metrics = await get('/metrics');
  return Number(/^fieldpost_messages_delivered_total\{endpoint="\$upstream"\} (\d+)/m.exec(metrics)?.[1] ?? 0);
}

/** Waits for the state that `accepts` takes. */
async function shows(accepts: (view: EndpointView) => boolean): Promise<EndpointView> {
  let last: EndpointView | undefined;
  return waitFor(async () => {
    last = await upstream().catch(() => undefined);
    return last !== undefined && accepts(last) ? last : undefined;
  }, WAIT).catch((error: unknown) => {
    throw new Error(`${String(error)} Last: ${JSON.stringify(last)} ${gateway.errorOutput()}`, { cause: error });
  });
}

/** Waits until the hub has taken more than before. */
async function flows(): Promise<void> {
  const before = await delivered();
  await waitFor(async () => (await delivered()) > before + 2, { ...WAIT, what: 'messages to be delivered' });
}

const overWebSocket = ({ connected, target }: EndpointView): boolean => connected && target.startsWith('wss:');

it('goes around what is blocked, says why, and comes back', async () => {
  const overAmqpWs = await shows(overWebSocket);
  expect(overAmqpWs.reason).toMatch(/^Connected over amqp_ws\. amqp: .* within 1000 ms/);
  await flows();

  // One that says no, to the connection that stands as well.
  await network.block({ [AMQPS_PORT]: 'reject', [HTTPS_PORT]: 'reject' });
  const away = await shows(({ connected, reason }) => !connected && reason !== undefined);
  expect(away.reason).toMatch(/refused|reset|lost|closed/i);

  // The web is open, to all but AMQP.
  takesAmqp = false;
  await network.block({ [AMQPS_PORT]: 'reject' });
  const overMqttWs = await shows(overWebSocket);
  expect(overMqttWs.reason).toMatch(/^Connected over mqtt_ws\. amqp_ws: .* amqp: .*connection refused/);
  await flows();

  // All of it is over, and what stood is cut: the best is taken, and nothing is said of it any more.
  await network.block({ [HTTPS_PORT]: 'reject' });
  const best = await shows(({ connected, target }) => connected && target.startsWith('amqps:'));
  expect(best.reason).toBeUndefined();
  await flows();
});
