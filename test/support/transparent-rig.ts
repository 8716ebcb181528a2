// A gateway with a local hub of its own in front of a cloud, which is another daemon: its configuration, and the keys of all.

import { createHmac } from 'node:crypto';
import { HUB_HOST_NAME, type HubDaemonOptions } from './hub-daemon.ts';

export const GATEWAY_ID = 'plant-7';
export const GATEWAY_KEY = Buffer.alloc(32, 9).toString('base64');
export const GROUP_KEY = Buffer.alloc(64, 7).toString('base64');

/** Of a device of the group, as the service has it (contract/device-semantics.md), made without the code under test. */
export const derivedKey = (deviceId: string): string =>
  createHmac('sha256', Buffer.from(GROUP_KEY, 'base64')).update(deviceId).digest('base64');

export interface TransparentGatewayOptions extends Pick<HubDaemonOptions, 'address' | 'directory' | 'built'> {
  /** Address of the cloud. */
  readonly dials: string;
  /** PEM of the authority that the cloud's certificate is from. */
  readonly ca: string;
  /** Further fields of the upstream; those of the same name win. */
  readonly upstream: Readonly<Record<string, unknown>>;
  readonly adapters?: object;
}

/** Its leaf devices are of the group, unless the upstream says otherwise. */
export function transparentGateway(options: TransparentGatewayOptions): HubDaemonOptions {
  const { dials, ca, upstream, adapters, ...daemon } = options;
  return {
    ...daemon,
    hub: { host_name: 'edge.fieldpost.test' },
    config: {
      gateway: { id: GATEWAY_ID },
      ...(adapters !== undefined && { adapters }),
      upstream: {
        type: 'iothub',
        host_name: HUB_HOST_NAME,
        shared_access_key: GATEWAY_KEY,
        gateway_host_name: dials,
        ca,
        leaf_devices: { identity: 'group_key', group_key: GROUP_KEY },
        ...upstream,
      },
    },
  };
}
