// Devices at the local hub are connected to the cloud as long as they are connected here, so that what the cloud has for them
// arrives, and so that the cloud itself says of one that is away that it is.

import { isGatewayError, type Clock, type DeviceId, type SessionDevices } from '#sdk';

/** A connection to the cloud in the name of one device. */
export interface PresentLink {
  /** Settles when it has ended. Never rejects. */
  readonly closed: Promise<unknown>;
  /** The device takes something else now. */
  refresh(): void;
}

export interface SessionPresenceOptions {
  readonly sessions: SessionDevices;
  /** Whether the device is somebody at the cloud. */
  readonly isItself: (deviceId: DeviceId) => Promise<boolean>;
  /** The device's link, opened if need be. @throws GatewayError. */
  readonly reach: (deviceId: DeviceId) => Promise<PresentLink>;
  readonly clock: Clock;
  /** Ends it. */
  readonly signal: AbortSignal;
}

/** Pauses before a link that was lost, or refused, is opened again for a device that is still there. */
const LOST_MS = 1000;
const REFUSED_MS = 60_000;

/** Opens links for the devices that are to be connected, and for those that come to be, until the signal aborts. */
export function followSessions({ sessions, isItself, reach, clock, signal }: SessionPresenceOptions): void {
  const held = new Map<DeviceId, PresentLink | undefined>();

  /** Never rejects. */
  async function hold(deviceId: DeviceId): Promise<void> {
    held.set(deviceId, undefined);
    while (!signal.aborted && sessions.isWanted(deviceId)) {
      let pauseMs = LOST_MS;
      try {
        const link = await reach(deviceId);
        held.set(deviceId, link);
        link.refresh();
        await link.closed;
      } catch (error) {
        if (isGatewayError(error) && error.kind === 'unauthorized') pauseMs = REFUSED_MS;
      }
      held.set(deviceId, undefined);
      await clock.sleep(pauseMs, signal).catch(() => {});
    }
    held.delete(deviceId);
  }

  /** Never rejects. */
  async function begin(deviceId: DeviceId): Promise<void> {
    if ((await isItself(deviceId)) && !held.has(deviceId)) await hold(deviceId);
  }

  const changed = (deviceId: DeviceId): void => {
    if (held.has(deviceId)) held.get(deviceId)?.refresh();
    else if (sessions.isWanted(deviceId)) void begin(deviceId);
  };
  const unwatch = sessions.watch(changed);
  signal.addEventListener('abort', unwatch, { once: true });
  for (const deviceId of sessions.wanted()) changed(deviceId);
}
