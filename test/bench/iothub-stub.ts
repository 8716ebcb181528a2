// A stub in the place of Azure IoT Hub, in a process of its own.

import { join } from 'node:path';
import type { z } from 'zod';
import type { iotHubUpstreamConfig } from '../../modules/upstream-iothub/config.ts';
import { createAuthority } from '../support/certificates.ts';
import { startChild, type Child, type ChildOptions } from '../support/child.ts';
import { RUNTIME_ENVIRONMENT, RUNTIME_FLAGS } from './daemon.ts';

/** What came since it was started. */
export interface HubTally {
  readonly connections: number;
  readonly tokens: number;
  readonly messages: number;
  /** A batch is one. */
  readonly transfers: number;
}

/** A message that holds the marker. */
export interface HubSeen {
  /** Base64. */
  readonly body: string;
  /** Wall clock, with fractions. */
  readonly atMs: number;
}

export interface HubStub extends AsyncDisposable {
  readonly address: string;
  readonly port: number;
  /** PEM. */
  readonly ca: string;
  readonly caPath: string;
  tally(): Promise<HubTally>;
  /** Tells of each message from now on that holds these bytes, and of nothing else. */
  watch(marker: string, onSeen: (seen: HubSeen) => void): void;
}

/** Names of the hub and of the gateway's device at it; the key is anyone's. */
const STUB_HOST_NAME = 'stub.fieldpost.test';
const STUB_KEY = Buffer.alloc(32, 3).toString('base64');

export interface HubStubOptions {
  /** In 127.0.0.0/8, of this bench alone, or in a namespace. */
  readonly address: string;
  readonly directory: string;
  /** Default: one that the system chooses. */
  readonly port?: number;
  /** A program that ends by becoming the stub. */
  readonly through?: ChildOptions['through'];
}

export async function startHubStub({ address, directory, port = 0, through = [] }: HubStubOptions): Promise<HubStub> {
  const authority = await createAuthority(directory, `authority-${address}`);
  const pair = await authority.issue({ name: `hub-${address}`, hosts: [address] });
  let onSeen: ((seen: HubSeen) => void) | undefined;
  const child: Child = startChild(join(import.meta.dirname, 'iothub-stub-child.ts'), {
    args: [address, String(port), pair.certificatePath, pair.keyPath],
    execArgv: RUNTIME_FLAGS,
    env: RUNTIME_ENVIRONMENT,
    through,
    onReport: (report) => {
      if (isSeen(report)) onSeen?.(report);
    },
  });
  const { port: chosen } = await child.next(isPort);
  return {
    address,
    port: chosen,
    ca: authority.certificate,
    caPath: authority.certificatePath,
    tally: () => {
      child.send({ tally: true });
      return child.next(isTally);
    },
    watch: (marker, listener) => {
      onSeen = listener;
      child.send({ marker });
    },
    [Symbol.asyncDispose]: () => child[Symbol.asyncDispose](),
  };
}

/** What may stand under `upstream:` and lead to the stub, which takes what a broker gets as well. */
export const STUB_UPSTREAMS = ['amqp', 'iothub'] as const;
export type StubUpstream = (typeof STUB_UPSTREAMS)[number];

/** The value of `upstream:` in a configuration, as YAML. @param way where the stub is found. */
export function upstreamYaml(
  type: StubUpstream,
  { caPath }: Pick<HubStub, 'caPath'>,
  { address, port }: { readonly address: string; readonly port: number },
): string {
  const settings = {
    amqp: `url: "amqps://${address}:${port}", address: bench`,
    iothub: `host_name: ${STUB_HOST_NAME}, gateway_host_name: ${address}, port: ${port}, shared_access_key: ${STUB_KEY}, protocol: amqp, commands: false`,
  };
  return `{ type: ${type}, ${settings[type]}, ca: !file ${caPath} }`;
}

/** A configuration of the transport to IoT Hub that leads to the stub. */
export function upstreamToStub({ address, ca, port }: HubStub): z.input<typeof iotHubUpstreamConfig> {
  return {
    host_name: STUB_HOST_NAME,
    device_id: 'gateway-1',
    shared_access_key: STUB_KEY,
    gateway_host_name: address,
    port,
    ca,
    protocol: 'amqp',
  };
}

function isPort(report: unknown): report is { readonly port: number } {
  return typeof report === 'object' && report !== null && 'port' in report;
}

function isTally(report: unknown): report is HubTally {
  return typeof report === 'object' && report !== null && 'transfers' in report;
}

function isSeen(report: unknown): report is HubSeen {
  return typeof report === 'object' && report !== null && 'body' in report;
}
