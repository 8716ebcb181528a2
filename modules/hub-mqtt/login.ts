// CONNECT: who the client says it is, what proves it, and the code of its CONNACK (contract/device-mqtt.md, sections 2 and 3;
// contract/device-auth.md, section 7).

import {
  iotHubErrorOf,
  parseHubUserName,
  type ClientConnect,
  type Credential,
  type DoorConnection,
  type HubUserName,
  type IdentityRef,
  type Access,
  type Principal,
} from '#sdk';

/** CONNACK return codes (MQTT 3.1.1, 3.2.2.3). */
const CONNACK = { badVersion: 1, unavailable: 3, notAuthorized: 5 } as const;

export type LoginResult =
  | { readonly isIn: true; readonly principal: Principal; readonly ref: IdentityRef; readonly userName: HubUserName }
  | {
      readonly isIn: false;
      /** Of CONNACK; undefined: the answer of MQTT 5. */
      readonly returnCode: number | undefined;
      /** For counting; undefined: the hub has told it. */
      readonly reason: string | undefined;
    };

/** Only what no client of any hub could mean is refused here; the rest is for the hub to judge. Never throws. */
export async function logIn(connect: ClientConnect, door: DoorConnection, access: Access): Promise<LoginResult> {
  if (connect.protocolVersion === 5) return refuse(undefined, 'protocol_level');
  if (connect.protocolVersion !== 4) return refuse(CONNACK.badVersion, 'protocol_level');
  const userName = parseHubUserName(connect.username ?? '');
  if (userName === undefined) return refuse(CONNACK.notAuthorized, 'user_name');
  const { identity: ref, hostName } = userName;
  if (connect.clientId !== clientIdOf(ref)) return refuse(CONNACK.notAuthorized, 'client_id');
  const credential = credentialOf(connect, door);
  if (credential === undefined) return refuse(CONNACK.notAuthorized, 'no_credential');
  const { remoteAddress, protocol } = door;
  try {
    const asked = { hostName, remoteAddress, protocol, credential, claimed: ref };
    return { isIn: true, principal: await access.login(asked), ref, userName };
  } catch (error) {
    return refuse(connackOf(error));
  }
}

/**
 * What an error says in CONNACK: 3 where the client shall try again, a disabled device among them as the service has it, else 5.
 */
export function connackOf(error: unknown): number {
  const { httpStatus, name } = iotHubErrorOf(error);
  const isLater = httpStatus >= 500 || httpStatus === 429 || name === 'DeviceDisabled';
  return isLater ? CONNACK.unavailable : CONNACK.notAuthorized;
}

export function clientIdOf({ deviceId, moduleId }: IdentityRef): string {
  return moduleId === undefined ? deviceId : `${deviceId}/${moduleId}`;
}

function refuse(returnCode: number | undefined, reason?: string): LoginResult {
  return { isIn: false, returnCode, reason };
}

/** A token comes first: clients that have one may show a certificate for another purpose. */
function credentialOf({ password }: ClientConnect, { certificateChain }: DoorConnection): Credential | undefined {
  const token = password?.toString() ?? '';
  if (token !== '') return { kind: 'sas', token };
  return certificateChain.length === 0 ? undefined : { kind: 'x509', chain: certificateChain };
}
