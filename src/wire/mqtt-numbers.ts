// All MQTT libraries of ours share one writer of packets, and with it a table that costs more than it saves.

/**
 * Keeps the writer from making all 65 536 two-byte numbers before its first packet, 8 MB of small objects, for the sake of
 * the few that a packet has. Call it before the first packet of the process; again does no harm.
 */
export async function withoutNumberTable(): Promise<void> {
  const { default: packets } = await import('mqtt-packet');
  packets.writeToStream.cacheNumbers = false;
}
