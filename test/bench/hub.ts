// The built daemon as a local hub: what the benches of the hub run against.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../support/free-port.ts';
import { waitFor } from '../support/wait.ts';
import type { BenchContext } from './bench.ts';
import { spawnDaemon, type BenchDaemon } from './daemon.ts';
import { HOST_NAME, openTls, OWNER_KEY, type HubTarget } from './hub-client.ts';

export interface BenchHub {
  readonly daemon: BenchDaemon;
  readonly target: HubTarget;
}

export interface BenchHubOptions {
  /** In 127.0.0.0/8, of this bench alone. */
  readonly address: string;
  /** Under the bench's directory; the same one again starts the same hub. */
  readonly directory: string;
  /** Further sections of the configuration, as YAML. */
  readonly config?: string;
}

/** Starts it and waits until devices may connect. */
export async function startHub(context: BenchContext, options: BenchHubOptions): Promise<BenchHub> {
  const { address } = options;
  const [mqttsPort, amqpsPort, httpsPort, web] = [
    await freePort(address),
    await freePort(address),
    await freePort(address),
    await freePort(address),
  ];
  const directory = join(context.directory, options.directory);
  const daemon = spawnDaemon({
    daemon: context.daemon,
    directory,
    web: `${address}:${web}`,
    config: `gateway: { id: bench }
hub:
  enabled: true
  address: ${address}
  host_name: ${HOST_NAME}
  mqtts_port: ${mqttsPort}
  amqps_port: ${amqpsPort}
  https_port: ${httpsPort}
  policies:
    iothubowner: { rights: [RegistryRead, RegistryWrite, ServiceConnect, DeviceConnect], primary_key: ${OWNER_KEY} }
web: { address: ${address}, port: ${web} }
${options.config ?? ''}`,
  });
  await daemon.ready();
  const caPath = join(directory, 'data', 'pki', 'ca.pem');
  const ca = await waitFor(() => readIfThere(caPath), { timeoutMs: 30_000, what: "the hub's authority" });
  const target: HubTarget = { address, mqttsPort, amqpsPort, httpsPort, ca, caPath };
  await waitFor(() => isOpen(target), { timeoutMs: 30_000, what: 'the port of the hub' });
  return { daemon, target };
}

async function isOpen(target: HubTarget): Promise<boolean> {
  const socket = await openTls(target).catch(() => undefined);
  socket?.destroy();
  return socket !== undefined;
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
