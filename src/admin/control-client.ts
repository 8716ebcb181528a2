// The command line's side of the control socket: the same functions as the admin port, answered by the running gateway.

import { request } from 'node:http';
import type {
  AdminApi,
  BufferAdmin,
  ConfigCheckView,
  ConfigGenerationView,
  ConfigProposal,
  ConfigView,
  DeviceQuery,
  DeviceView,
  GatewayStatus,
  HealthSummary,
  MessageView,
  Page,
  QuarantinedView,
  WriteRequest,
  WriteView,
} from '../core/admin.ts';
import type { AuditRecord } from '../core/command.ts';
import { GatewayError } from '../core/errors.ts';
import type { HubAdmin } from '../core/hub/admin.ts';
import type { OutboxStats } from '../core/outbox.ts';
import type { ScanEvent } from '../core/scan.ts';
import { answeredError, connectionError } from './control-errors.ts';
import { HUB_CALLS, type EventLine } from './control-hub-routes.ts';
import { readLines } from './control-lines.ts';

/** ConfigAdmin over the socket: what is at hand there has to be fetched here. */
export interface RemoteConfig {
  view(): Promise<ConfigView>;
  generations(): Promise<readonly ConfigGenerationView[]>;
  read(generation: number): Promise<string>;
  check(text: string): Promise<ConfigCheckView>;
  propose(change: ConfigProposal): Promise<ConfigGenerationView>;
  confirm(generation: number, actor: string): Promise<void>;
  revert(generation: number, actor: string): Promise<void>;
}

/** Every function may throw GW_NOT_RUNNING and GW_TIMEOUT beside what the gateway answers with. */
export interface ControlClient {
  status(): Promise<GatewayStatus>;
  health(): Promise<HealthSummary>;
  devices(query?: DeviceQuery): Promise<Page<DeviceView>>;
  write(request: WriteRequest, actor: string): Promise<WriteView>;
  readonly audit: AdminApi['audit'];
  identify(deviceId: string): Promise<Readonly<Record<string, string>>>;
  readonly scan: AdminApi['scan'];
  readonly hub: HubAdmin;
  readonly buffer: BufferAdmin;
  readonly config: RemoteConfig;
}

/** Longer than the gateway lets a write to a device or a method of the hub take. */
const ANSWER_TIMEOUT_MS = 620_000;

/**
 * A client of the gateway that listens on the socket at `path`.
 * @throws GatewayError GW_NOT_RUNNING when none does.
 */
export async function connectControl(path: string): Promise<ControlClient> {
  const client = createControlClient(path);
  await client.health();
  return client;
}

type Query = Readonly<Record<string, string | number | boolean | undefined>>;

export function createControlClient(path: string): ControlClient {
  async function get<T>(route: string, query: Query = {}): Promise<T> {
    const pairs = new URLSearchParams();
    for (const [name, value] of Object.entries(query)) if (value !== undefined) pairs.set(name, String(value));
    const search = pairs.toString();
    return (await send(path, 'GET', search === '' ? route : `${route}?${search}`)) as T;
  }
  async function post<T>(route: string, body: unknown): Promise<T> {
    return (await send(path, 'POST', route, JSON.stringify(body))) as T;
  }
  const count = async (route: string, body: unknown): Promise<number> =>
    (await post<{ count: number }>(route, body)).count;

  return {
    status: () => get('/v1/status'),
    health: () => get('/v1/health'),
    devices: (query = {}) => get('/v1/devices', { ...query }),
    write: (request, actor) => post('/v1/write', { ...request, actor }),
    audit: (page) => get<readonly AuditRecord[]>('/v1/audit', { ...page }),
    identify: (deviceId) => post('/v1/identify', { deviceId }),
    scan: (request, { signal, report }) =>
      readLines({ socketPath: path, path: '/v1/scan', body: request, signal, what: 'scan' }, (line) =>
        report(line as ScanEvent),
      ),
    hub: {
      ...hubCalls(post),
      monitorEvents: (query, { signal, report }) =>
        readLines({ socketPath: path, path: '/v1/hub/monitorEvents', body: query, signal, what: 'monitor' }, (line) =>
          report((line as EventLine).event),
        ),
    },
    buffer: {
      stats: () => get<OutboxStats>('/v1/buffer'),
      messages: (options) => get<readonly MessageView[]>('/v1/buffer/messages', options),
      quarantined: (options) => get<readonly QuarantinedView[]>('/v1/buffer/quarantine', options),
      requeue: (ids) => count('/v1/buffer/requeue', { ids }),
      discard: (ids) => count('/v1/buffer/discard', { ids }),
      purge: (queue) => count('/v1/buffer/purge', { queue }),
    },
    config: {
      view: () => get('/v1/config'),
      generations: () => get('/v1/config/generations'),
      read: async (generation) => (await get<{ text: string }>(`/v1/config/generations/${generation}`)).text,
      check: (text) => post('/v1/config/check', { text }),
      propose: (change) => post('/v1/config/propose', change),
      confirm: async (generation, actor) => {
        await post('/v1/config/confirm', { generation, actor });
      },
      revert: async (generation, actor) => {
        await post('/v1/config/revert', { generation, actor });
      },
    },
  };
}

/** Every function of HubAdmin that is one request, by its name. */
function hubCalls(post: <T>(route: string, body: unknown) => Promise<T>): Omit<HubAdmin, 'monitorEvents'> {
  const calls = HUB_CALLS.map((name) => [name, (request: unknown) => post(`/v1/hub/${name}`, request)]);
  return Object.fromEntries(calls) as Omit<HubAdmin, 'monitorEvents'>;
}

async function send(socketPath: string, method: 'GET' | 'POST', path: string, body?: string): Promise<unknown> {
  const { status, text } = await exchange(socketPath, method, path, body);
  return readAnswer(status, text);
}

interface Answer {
  readonly status: number;
  readonly text: string;
}

function exchange(socketPath: string, method: string, path: string, body: string | undefined): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const headers = body === undefined ? {} : { 'content-type': 'application/json' };
    // One connection a request: a command asks a few times and ends.
    const options = { socketPath, method, path, headers, agent: false, timeout: ANSWER_TIMEOUT_MS };
    const outgoing = request(options, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', (error) => reject(connectionError(socketPath, error)));
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') });
      });
    });
    outgoing.on('timeout', () => {
      const limit = `within ${ANSWER_TIMEOUT_MS / 1000} s`;
      outgoing.destroy(new GatewayError('GW_TIMEOUT', `The gateway on "${socketPath}" did not answer ${limit}.`));
    });
    outgoing.on('error', (error) => reject(connectionError(socketPath, error)));
    outgoing.end(body);
  });
}

/** @throws GatewayError with the code that the gateway gave. */
function readAnswer(status: number, text: string): unknown {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch (error) {
    throw new GatewayError('GW_PROTOCOL', 'The control socket answered with something else than JSON.', {
      cause: error,
    });
  }
  if (status >= 200 && status < 300) return body;
  throw answeredError(body, text);
}
