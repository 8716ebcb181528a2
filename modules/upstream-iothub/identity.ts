// Who the gateway is at the hub, and what proves it: from a connection string, or field by field.

import {
  errorText,
  isDeviceId,
  parseConnectionString,
  type ConfigFault,
  type DeviceConnectionString,
  type DeviceId,
} from '#sdk';

/** What the configuration says of it. */
export interface IdentitySettings {
  readonly connection_string?: string | undefined;
  readonly host_name?: string | undefined;
  readonly device_id?: string | undefined;
  readonly shared_access_key?: string | undefined;
  readonly certificate?: string | undefined;
  readonly key?: string | undefined;
  readonly gateway_host_name?: string | undefined;
}

/** One device at a hub. */
export interface HubIdentity {
  /** The hub's own name: in the user name and in tokens, whoever is dialled. */
  readonly hostName: string;
  readonly deviceId: string;
  /** Whom to dial. */
  readonly dialHost: string;
  /** Base64. Undefined: a certificate proves it. */
  readonly sharedAccessKey?: string;
  /** PEM, with `privateKey`. */
  readonly certificate?: string;
  readonly privateKey?: string;
}

/** Bytes that a key has (contract/device-auth.md, section 2). */
const KEY_BYTES = { min: 16, max: 64 };
/** What is told of a text that is no key. */
export const KEY_RULE = 'has a key that is not the base64 of 16 to 64 bytes; copy it again as a whole';

/** The hub's own name. Takes settings in which `identityFaults` found nothing. */
export function hubNameOf(config: IdentitySettings): string {
  return deviceString(config)?.hostName ?? config.host_name ?? '';
}

/** Takes settings in which `identityFaults` found nothing. @param gatewayId who it is without another name. */
export function identityOf(config: IdentitySettings, gatewayId: DeviceId): HubIdentity {
  const given = deviceString(config);
  const hostName = given?.hostName ?? config.host_name ?? '';
  const sharedAccessKey = given?.sharedAccessKey ?? config.shared_access_key;
  return {
    hostName,
    // The id of the connection string wins over the gateway's.
    deviceId: given?.deviceId ?? config.device_id ?? gatewayId,
    dialHost: config.gateway_host_name ?? given?.gatewayHostName ?? hostName,
    ...(sharedAccessKey !== undefined && { sharedAccessKey }),
    ...(config.certificate !== undefined && { certificate: config.certificate }),
    ...(config.key !== undefined && { privateKey: config.key }),
  };
}

function deviceString({ connection_string: text }: IdentitySettings): DeviceConnectionString | undefined {
  const parsed = text === undefined ? undefined : parseConnectionString(text);
  return parsed?.kind === 'device' ? parsed : undefined;
}

/** What is missing, contradicts itself, or cannot be used. Never with a secret in it. */
export function identityFaults(config: IdentitySettings): readonly ConfigFault[] {
  const faults: ConfigFault[] = [];
  const fault = (path: string, message: string): void => void faults.push({ path: [path], message });
  let given: DeviceConnectionString | undefined;
  if (config.connection_string === undefined) {
    if (config.host_name === undefined) fault('host_name', 'is missing; give it, or a `connection_string`');
    checkHost(config.host_name, (message) => fault('host_name', message));
  } else {
    const found = readString(config.connection_string);
    if (typeof found === 'string') {
      fault('connection_string', found);
      return faults;
    }
    given = found;
    for (const message of contradictions(config, given)) faults.push(message);
    checkHost(given.hostName, (message) => fault('connection_string', `has a HostName that ${message}`));
  }
  const keyField = given?.sharedAccessKey === undefined ? 'shared_access_key' : 'connection_string';
  const sharedAccessKey = given?.sharedAccessKey ?? config.shared_access_key;
  if (sharedAccessKey !== undefined && !isSharedKey(sharedAccessKey)) {
    fault(keyField, KEY_RULE);
  }
  checkHost(config.gateway_host_name, (message) => fault('gateway_host_name', message));
  faults.push(...proofFaults(config, sharedAccessKey !== undefined, given?.x509 === true));
  return faults;
}

/** The connection string, or what is wrong with it. */
function readString(text: string): DeviceConnectionString | string {
  let parsed;
  try {
    parsed = parseConnectionString(text);
  } catch (error) {
    return `cannot be used: ${errorText(error)}`;
  }
  if (parsed.kind !== 'device') {
    const whose = parsed.kind === 'policy' ? 'a policy of the hub' : 'its events';
    return `is that of ${whose}, not of a device; copy that of the gateway’s own device`;
  }
  if (parsed.moduleId !== undefined) return 'is that of a module, which is not in this version; copy that of a device';
  if (parsed.sharedAccessSignature !== undefined) {
    return 'holds a token, which cannot be renewed; use one with a SharedAccessKey';
  }
  return isDeviceId(parsed.deviceId) ? parsed : 'has a DeviceId that no device can have';
}

/** Where fields say something else than the connection string. */
function contradictions(config: IdentitySettings, given: DeviceConnectionString): ConfigFault[] {
  const faults: ConfigFault[] = [];
  const { host_name: hostName, device_id: deviceId } = config;
  if (hostName !== undefined && hostName.toLowerCase() !== given.hostName.toLowerCase()) {
    faults.push({ path: ['host_name'], message: `is not that of the connection string, ${given.hostName}` });
  }
  // Compared with their case, as the hub does.
  if (deviceId !== undefined && deviceId !== given.deviceId) {
    faults.push({ path: ['device_id'], message: `is not that of the connection string, ${given.deviceId}` });
  }
  if (config.shared_access_key !== undefined && given.sharedAccessKey !== undefined) {
    faults.push({ path: ['shared_access_key'], message: 'stands in the connection string already' });
  }
  return faults;
}

function proofFaults(config: IdentitySettings, hasSharedKey: boolean, wantsX509: boolean): ConfigFault[] {
  const { certificate, key } = config;
  if ((certificate === undefined) !== (key === undefined)) {
    const [has, lacks] = key === undefined ? (['certificate', 'key'] as const) : (['key', 'certificate'] as const);
    return [{ path: [has], message: `needs \`${lacks}\` as well` }];
  }
  if (certificate !== undefined && hasSharedKey) {
    return [{ path: ['certificate'], message: 'contradicts the shared access key: one proves the device, not both' }];
  }
  if (certificate === undefined && wantsX509) {
    return [{ path: ['connection_string'], message: 'says x509=true and needs `certificate` and `key`' }];
  }
  if (certificate === undefined && !hasSharedKey) {
    const message = 'is missing: a key, a connection string with one, or `certificate` and `key` prove the device';
    return [{ path: ['shared_access_key'], message }];
  }
  return [];
}

function checkHost(host: string | undefined, fault: (message: string) => void): void {
  if (host !== undefined && !/^[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?$/.test(host)) {
    fault('must be a host name alone, such as plant.azure-devices.net');
  }
}

/** Whether a text can be the symmetric key of a device or group. */
export function isSharedKey(text: string): boolean {
  const bytes = Buffer.from(text, 'base64');
  const isExact = bytes.toString('base64') === text;
  return isExact && bytes.byteLength >= KEY_BYTES.min && bytes.byteLength <= KEY_BYTES.max;
}
