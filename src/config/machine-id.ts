// The default id of a gateway: constant for the machine, without giving the machine's own id away.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { type DeviceId, parseDeviceId } from '../core/device.ts';

const MACHINE_ID_FILE = '/etc/machine-id';

/** `fieldpost-` and six hexadecimal digits. machine-id(5): the raw id must not leave the machine, so it is hashed. */
export function defaultGatewayId(machineId: string = readMachineId()): DeviceId {
  const digits = createHash('sha256').update(`fieldpost gateway id\n${machineId}`).digest('hex').slice(0, 6);
  return parseDeviceId(`fieldpost-${digits}`);
}

function readMachineId(): string {
  try {
    const id = readFileSync(MACHINE_ID_FILE, 'utf8').trim();
    if (/^[0-9a-f]{32}$/.test(id)) return id;
  } catch {
    // A container or another system: its host name is the next best thing that stays.
  }
  return hostname();
}
