# The files that a member's Patroni reads; sourced by init.

# synchronous_mode without _strict: a primary that is cut off cannot leave synchronous mode, since that takes
# a write to etcd, so no acknowledged commit is lost; and a lab of one member, or one whose replicas are all
# down, still takes writes.
patroni_yml() {
	local host quarter ssl= verify=

	if [ -n "$tls" ]; then
		ssl=", ssl: 'on', ssl_cert_file: /run/tls/server.crt, ssl_key_file: /run/tls/server.key"
		verify=', sslmode: verify-ca, sslrootcert: /run/tls/ca.crt'
	fi
	host=$(member_host "$me")
	quarter=$((10#$ttl / 4))
	cat <<X
scope: $lab
name: $me
log: {level: INFO, format: '%(asctime)s %(levelname)s: %(message)s'}
restapi:
  listen: 0.0.0.0:8008
  connect_address: $host:8008
  authentication: {username: lab, password: $rest_password}
etcd3: {host: '$(member_host etcd):2379'}
bootstrap:
  dcs:
    ttl: $ttl
    loop_wait: 1
    retry_timeout: $((quarter < 3 ? 3 : quarter))
    maximum_lag_on_failover: 1048576
    synchronous_mode: $([ "$mode" = sync ] && echo true || echo false)
    postgresql:
      use_pg_rewind: true
      use_slots: true
      remove_data_directory_on_rewind_failure: true
      remove_data_directory_on_diverged_timelines: true
      parameters:
        wal_level: replica
        hot_standby: 'on'
        wal_log_hints: 'on'
        wal_keep_size: 128MB
        max_wal_size: 512MB
        max_wal_senders: 10
        max_replication_slots: 10
        max_connections: 200
        shared_buffers: 64MB
        wal_sender_timeout: 5s
        wal_receiver_timeout: 5s
        wal_receiver_status_interval: 1s
        wal_retrieve_retry_interval: 1s
        tcp_user_timeout: 5s
        tcp_keepalives_idle: 2
        tcp_keepalives_interval: 1
        tcp_keepalives_count: 3
        log_line_prefix: '%m [%p] '
        log_checkpoints: 'off'
  initdb: [encoding: UTF8, locale: C.UTF-8, data-checksums, no-sync]
  post_bootstrap: /run/patroni/post_bootstrap
postgresql:
  listen: '*:5432'
  connect_address: $host:5432
  data_dir: /var/lib/postgresql/data
  bin_dir: $pg_bin
  pgpass: /run/patroni/pgpass
  use_unix_socket: true
  parameters: {unix_socket_directories: /run/postgresql$ssl}
  authentication:
    superuser: {username: postgres, password: $postgres_password}
    replication: {username: replicator, password: $replicator_password$verify}
  basebackup: [checkpoint: fast, no-sync]
  pg_hba:
    - local all postgres peer
    - local all all scram-sha-256
    - host all all 127.0.0.1/32 scram-sha-256
    - host all all ::1/128 scram-sha-256
    - host all all $subnet.0/24 scram-sha-256
    - host all all ${net6}:/64 scram-sha-256
    - local replication replicator scram-sha-256
    - host replication replicator 127.0.0.1/32 scram-sha-256
    - host replication replicator ::1/128 scram-sha-256
    - host replication replicator $subnet.0/24 scram-sha-256
X
}

post_bootstrap() {
	cat <<X
#!/bin/sh
exec $pg_bin/psql -X -q -v ON_ERROR_STOP=1 -d "\$1" <<'SQL'
SET log_min_error_statement = panic;
CREATE ROLE pgjolt LOGIN PASSWORD '$pgjolt_password' IN ROLE pg_monitor;
CREATE DATABASE app OWNER pgjolt;
SQL
X
}
