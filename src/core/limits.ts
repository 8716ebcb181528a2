// Every bound of the system, by name. A queue, cache or table that is not bounded by one of these is a defect.
// Each is visible in metrics as `fieldpost_limit{name}` beside the current value of what it bounds.

export const LIMITS = {
  /** Appends that may wait for a commit; past it GW_OUTBOX_BUSY. */
  outbox_waiting_messages: 65_536,
  outbox_waiting_bytes: 32 * 1024 * 1024,
  /** One group commit, and so one chunk. */
  chunk_messages: 4096,
  chunk_bytes: 512 * 1024,
  /** Chunks kept for the queues that read at about the same place, with their decoded messages where several read. */
  chunk_cache_bytes: 4 * 1024 * 1024,
  /** Devices whose next `seq` is kept in memory. */
  outbox_devices: 100_000,
  /** Streams of the outbox, and the partitions of each. */
  outbox_streams: 64,
  stream_partitions: 32,
  /** Bytes of the newest index of each stream in memory, and places in it that its readers came to. */
  stream_index_bytes: 256 * 1024,
  stream_reader_places: 1024,
  /** Losses by a limit, by device, reason and queue, that wait to be told together; at this many they are told at once. */
  outbox_untold_losses: 256,
  /** Messages leased by one queue. */
  queue_in_flight_messages: 8192,
  /** Ranges done above a cursor; past it the pump waits for the lowest. */
  queue_done_ranges: 4096,
  /** Bytes of messages that one endpoint has sent and not had answered, beside one message of any size. */
  endpoint_in_flight_bytes: 4 * 1024 * 1024,
  /** Messages of devices that an endpoint refuses, kept back while others pass; well below `queue_done_ranges`. */
  endpoint_held_messages: 2048,
  /** Quarantined messages; past it the oldest are dropped with an event. */
  quarantine_messages: 10_000,
  quarantine_bytes: 64 * 1024 * 1024,
  /** State besides messages: of one owner (an adapter, the dispatcher), of one entry, and what may wait for the disk. */
  state_space_keys: 100_000,
  state_space_bytes: 64 * 1024 * 1024,
  /** The same of one local hub: an identity has two entries, commands and kept sessions come on top. */
  hub_state_keys: 4_000_000,
  hub_state_bytes: 4 * 1024 * 1024 * 1024,
  state_key_bytes: 512,
  state_value_bytes: 1024 * 1024,
  state_waiting_bytes: 16 * 1024 * 1024,
  /** Boots whose clock offset is kept. */
  clock_boots: 64,
  /** Readings that wait for encoding and append when the disk is slow. */
  ingress_waiting_batches: 20_000,
  /** Bytes of polls that wait to be packed with others, over all devices; past it messages leave before they are full. */
  packing_bytes: 8 * 1024 * 1024,
  /** Samples that one moving window holds. */
  window_samples: 1024,
  /** Characters and nodes of the expression of a computed point. */
  expression_chars: 1024,
  expression_nodes: 256,
  /** Last values in memory. */
  points: 100_000,
  devices: 10_000,
  adapters: 256,
  endpoints: 64,
  routes: 256,
  /** Characters of a route's condition. */
  condition_chars: 4096,
  /** Commands that wait for one device, for all, and those taken from one upstream and not yet answered. */
  device_waiting_commands: 32,
  waiting_commands: 1024,
  downlink_commands: 256,
  /** Bytes of one command, and values that it writes. */
  command_bytes: 64 * 1024,
  command_values: 64,
  /** Commands of the last 24 h that are remembered, so that none is done twice. */
  command_records: 90_000,
  audit_records: 10_000,
  /** Writes that may wait on one bus. */
  bus_waiting_writes: 256,
  /** One capture of raw bytes, and what of it may wait for the disk. */
  capture_bytes: 64 * 1024 * 1024,
  capture_waiting_bytes: 1024 * 1024,
  /** Clients of one broker for leaf devices. */
  mqtt_connections: 4096,
  mqtt_packet_bytes: 1024 * 1024,
  /** Sessions of absent clients, retained messages and wills that one broker keeps. */
  mqtt_sessions: 1024,
  mqtt_session_messages: 1000,
  mqtt_session_bytes: 1024 * 1024,
  mqtt_subscriptions_per_client: 128,
  mqtt_retained_messages: 10_000,
  mqtt_retained_bytes: 16 * 1024 * 1024,
  /** Bytes that wait for one subscriber; past it the subscriber is dropped. */
  mqtt_subscriber_bytes: 1024 * 1024,
  /** Bytes of one client that wait to be stored; past it nothing more is read from it. */
  mqtt_client_unstored_bytes: 64 * 1024,
  /** Writes to MQTT devices that wait for a confirmation. */
  mqtt_waiting_writes: 256,
  /** Points that one device may show. */
  mqtt_device_points: 1000,
  /** Characters of the name of such a point. */
  mqtt_point_name_chars: 256,
  /** Passwords that wait for their slow hash. */
  password_checks_waiting: 256,
  /** Longest frame of a serial line. */
  serial_frame_bytes: 16_384,
  /** Kinds of requests of one bus whose usual latency is known. */
  modbus_latencies: 1024,
  /** Frames kept per bus for the frame log. */
  frame_log_frames: 512,
  /** Lines of the log that whoever reads it has not taken; past it lines are lost and counted. */
  log_waiting_bytes: 256 * 1024,
  /** Last lines of the log, kept for who asks for them, and characters of each. */
  log_tail_lines: 1000,
  log_tail_line_chars: 2048,
  /** Numbered generations of the configuration kept on disk. */
  config_generations: 50,
  config_bytes: 8 * 1024 * 1024,
  /** Faults of a configuration that are told at once. */
  config_faults: 1000,
  /** Values that aliases (`*name`) of a configuration may stand for, in all. */
  config_alias_nodes: 100_000,
  /** Events of the system kept in memory for the status page. */
  recent_events: 256,
  /** Events held back by their rate limit, by name and key. */
  telemetry_keys: 4096,
  /** Label sets of one counter; past it they count as `other`. */
  metric_label_sets: 64,
  /** Live-value subscribers of the web server. */
  web_live_clients: 32,
  /** Devices that one of them watches. */
  web_live_devices: 200,
  web_connections: 128,
  /** Subscribers of the broker inside the gateway. */
  local_broker_clients: 32,
  /** Connections of leaf devices to Azure IoT Hub, where each has one of its own. */
  iothub_device_connections: 1000,
  /** Names of devices that the registry of an IoT Hub does not have, and that are not asked for again for a while. */
  iothub_unknown_devices: 1000,
  /** Devices that ask the local hub for their messages over HTTPS, and are listened for in the cloud meanwhile. */
  hub_polling_devices: 10_000,
  /** Writes of twins by local services that wait for the cloud behind the local hub. */
  hub_cloud_twin_writes: 64,
  /** Connections of the local hub's clients, over all its ports, and those that wait for their handshake. */
  hub_connections: 10_000,
  hub_waiting_handshakes: 8192,
  /** One WebSocket frame to the local hub. */
  hub_websocket_bytes: 1024 * 1024,
  /** Devices and modules of one hub (contract/service-13), modules of one device. */
  hub_identities: 1_000_000,
  hub_device_modules: 50,
  /** Identities of a hub kept in memory. */
  hub_cached_identities: 8192,
  /** Identities that lists keep in memory as they showed them: two pages. */
  hub_listed_identities: 2000,
  /** Clients of the local hub: one of a device or module each, or of a policy. */
  hub_sessions: 50_000,
  /** Bytes of one client that wait to be stored, past it nothing more is read from it; and that wait for it to take them. */
  hub_client_unstored_bytes: 256 * 1024,
  hub_client_unsent_bytes: 1024 * 1024,
  /** Devices whose unacknowledged packets of an earlier connection are remembered by their identifiers. */
  hub_left_packets: 4096,
  /** Wills of clients of a hub that could not be sent yet. */
  hub_waiting_wills: 10_000,
  /** Identities whose connection state or last activity waits to be written. */
  hub_waiting_activity: 50_000,
  /** Commands that wait for one device of a hub (contract/device-semantics, section 2). */
  hub_device_commands: 50,
  /** Messages of the cloud behind a hub that were settled here without it hearing of that. */
  hub_settled_commands: 10_000,
  /** Devices of a hub whose waiting commands are known in memory; feedback that waits for the service. */
  hub_command_queues: 65_536,
  hub_feedback_records: 10_000,
  /** Calls of direct methods that wait, for one identity and for all. */
  hub_identity_methods: 32,
  hub_methods: 4096,
  /** Shared access policies, certificate authorities of devices (contract/service-13). */
  hub_policies: 16,
  hub_authorities: 25,
  /** Who is remembered for wrong credentials, and refusals that are being delayed. */
  hub_remembered_guesses: 4096,
  hub_delayed_refusals: 1024,
  /** Sessions, links and tokens of one AMQP connection to the local hub, which may carry a thousand devices. */
  hub_amqp_sessions: 2048,
  hub_amqp_links: 8192,
  hub_amqp_tokens: 2048,
  /** Bytes of messages from one AMQP connection that are being stored; more is not read. */
  hub_amqp_bytes_under_way: 4 * 1024 * 1024,
  /** Messages that wait for the credit of one link, and those on it that a client has not settled. */
  hub_amqp_waiting_messages: 256,
  hub_amqp_unsettled_messages: 128,
  /** Messages of one AMQP batch. */
  hub_batch_messages: 5000,
  /** Links of one AMQP upstream or endpoint, where each device has an address of its own; the longest idle makes room. */
  upstream_amqp_links: 1024,
  /** One line that `fieldpost unseal` reads: a message, sealed and signed. */
  unseal_line_bytes: 1024 * 1024,
  control_connections: 16,
  control_request_bytes: 1024 * 1024,
} as const;

export type LimitName = keyof typeof LIMITS;
