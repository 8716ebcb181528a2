// Devices and a back end of the local hub at the byte level, so cheap that what is measured is the hub and not its clients.

import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import type { OutgoingHttpHeaders } from 'node:http';
import { Agent, request } from 'node:https';
import { connect, type TLSSocket } from 'node:tls';
import packets from 'mqtt-packet';
import { logIn } from './mqtt-load.ts';

export const HOST_NAME = 'hub.fieldpost.test';
export const OWNER_KEY = Buffer.alloc(32, 1).toString('base64');
/** Of all devices. */
export const DEVICE_KEY = Buffer.alloc(32, 2).toString('base64');
const API = 'api-version=2021-04-12';
/** Identities of one bulk call. */
const BULK = 100;

export interface HubTarget {
  readonly address: string;
  readonly mqttsPort: number;
  readonly amqpsPort: number;
  readonly httpsPort: number;
  /** PEM of the hub's authority. */
  readonly ca: string;
  readonly caPath: string;
}

export function sasToken(resource: string, key: string, policy?: string): string {
  const encoded = encodeURIComponent(resource);
  const expiry = Math.floor(Date.now() / 1000) + 86_400;
  const signature = createHmac('sha256', Buffer.from(key, 'base64')).update(`${encoded}\n${expiry}`).digest('base64');
  const name = policy === undefined ? '' : `&skn=${policy}`;
  return `SharedAccessSignature sr=${encoded}&sig=${encodeURIComponent(signature)}&se=${expiry}${name}`;
}

/** A CONNECT as the SDKs send it. */
export function connectPacket(deviceId: string, key = DEVICE_KEY): Buffer {
  return packets.generate({
    cmd: 'connect',
    protocolId: 'MQTT',
    protocolVersion: 4,
    clean: false,
    keepalive: 240,
    clientId: deviceId,
    username: `${HOST_NAME}/${deviceId}/?${API}&DeviceClientType=bench`,
    password: Buffer.from(sasToken(`${HOST_NAME}/devices/${deviceId}`, key)),
  });
}

export async function openTls({ address, mqttsPort, ca }: HubTarget): Promise<TLSSocket> {
  const socket = connect({ host: address, port: mqttsPort, ca, servername: HOST_NAME });
  socket.on('error', () => {});
  socket.setNoDelay(true);
  await once(socket, 'secureConnect');
  return socket;
}

/** A device that was let in. */
export async function openDevice(target: HubTarget, deviceId: string): Promise<TLSSocket> {
  const socket = await openTls(target);
  await logIn(socket, connectPacket(deviceId), deviceId);
  return socket;
}

export interface HubService {
  /** Devices `device-0` and on. */
  createDevices(count: number): Promise<void>;
  /** @throws Error for another status than 2xx. */
  call(method: string, path: string, body: unknown, headers?: OutgoingHttpHeaders): Promise<unknown>;
  /** GET; resolves with the bytes of the answer. @throws Error for another status than 2xx. */
  read(path: string): Promise<Buffer>;
  close(): void;
}

/** The back end, on connections that stay open. */
export function openService({ address, httpsPort, ca }: HubTarget): HubService {
  const agent = new Agent({ keepAlive: true, maxSockets: 16 });
  const authorization = sasToken(HOST_NAME, OWNER_KEY, 'iothubowner');
  const exchange = (method: string, path: string, body: string, headers: OutgoingHttpHeaders): Promise<Buffer> =>
    new Promise((resolve, reject) => {
      const asked = request(
        {
          agent,
          host: address,
          port: httpsPort,
          servername: HOST_NAME,
          ca,
          method,
          path: `${path}?${API}`,
          headers: { host: HOST_NAME, authorization, ...headers },
        },
        (response) => {
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.on('end', () => {
            const answer = Buffer.concat(chunks);
            if ((response.statusCode ?? 500) < 300) resolve(answer);
            else reject(new Error(`${method} ${path}: ${response.statusCode} ${answer.toString()}`));
          });
        },
      );
      asked.on('error', reject);
      asked.end(body);
    });
  const call: HubService['call'] = async (method, path, body, headers = {}) => {
    const text = JSON.stringify(body);
    const type = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) };
    const answer = await exchange(method, path, text, { ...type, ...headers });
    return answer.length === 0 ? undefined : JSON.parse(answer.toString());
  };
  return {
    call,
    read: (path) => exchange('GET', path, '', {}),
    async createDevices(count) {
      const symmetricKey = { primaryKey: DEVICE_KEY, secondaryKey: DEVICE_KEY };
      for (let from = 0; from < count; from += BULK) {
        const entries = Array.from({ length: Math.min(BULK, count - from) }, (_, n) => ({
          id: `device-${from + n}`,
          importMode: 'create',
          authentication: { type: 'sas', symmetricKey },
        }));
        await call('POST', '/devices', entries);
      }
    },
    close: () => agent.destroy(),
  };
}
