defmodule ElixirScope.Foundation.PostgreSQLServer do
  @moduledoc "A PostgreSQL of Debian's package, in a temporary folder, on a free port of this machine."

  defstruct [:folder, :port]

  @doc """
  Makes a cluster and starts it. `at_end` is told how to stop and remove it; by default that is done when the test or module
  ends.
  """
  def start(at_end \\ &ExUnit.Callbacks.on_exit/1) do
    folder = temporary("escope_pg")
    File.mkdir_p!(folder)
    if root?(), do: {_, 0} = System.cmd("chown", ["postgres:", folder])
    data = Path.join(folder, "data")

    command("initdb", [
      "-D",
      data,
      "-U",
      "postgres",
      "-A",
      "trust",
      "-N",
      "--no-locale",
      "-E",
      "UTF8"
    ])

    server = %__MODULE__{folder: folder, port: free_port()}

    at_end.(fn ->
      command("pg_ctl", ["-D", data, "-m", "immediate", "stop"], [0, 1])
      File.rm_rf!(folder)
    end)

    up(server)
    server
  end

  @doc "Starts a stopped server."
  def up(%{folder: folder, port: port}) do
    options = "-p #{port} -k #{folder} -h 127.0.0.1 -c fsync=off -c max_connections=60"
    log = Path.join(folder, "log")
    data = Path.join(folder, "data")
    command("pg_ctl", ["-D", data, "-l", log, "-o", options, "-w", "-t", "60", "start"])
  end

  @doc "Stops the server at once, as a crash would."
  def down(%{folder: folder}),
    do: command("pg_ctl", ["-D", Path.join(folder, "data"), "-m", "immediate", "stop"])

  @doc "What a pool needs to know of it."
  def options(%{port: port}) do
    [
      adapter: :postgresql,
      hostname: "127.0.0.1",
      port: port,
      username: "postgres",
      database: "postgres"
    ]
  end

  @doc "Kills an operating system process, such as a back-end, with SIGKILL."
  def kill_9(os_pid),
    do: System.cmd("kill", ["-9", Integer.to_string(os_pid)], stderr_to_stdout: true)

  defp command(name, arguments, allowed \\ [0]) do
    program = Enum.find(Path.wildcard("/usr/lib/postgresql/*/bin/#{name}"), &File.exists?/1)
    unless program, do: raise("this needs Debian's postgresql; ci/deps.sh test installs it")

    # PostgreSQL refuses to run as root.
    {program, arguments} =
      if root?(),
        do:
          {"setpriv",
           ["--reuid=postgres", "--regid=postgres", "--clear-groups", program | arguments]},
        else: {program, arguments}

    # Not through a pipe that the server would keep open.
    script = ~s("$@" >"$0" 2>&1 </dev/null)
    output = temporary("escope_pg_out")
    {_, status} = System.cmd("sh", ["-c", script, output, program | arguments], cd: "/")
    said = File.read!(output)
    File.rm!(output)
    unless status in allowed, do: raise("#{name} failed with #{status}: #{said}")
    said
  end

  # Other VMs of this machine count their unique integers from the same number.
  defp temporary(name) do
    name = "#{name}_#{System.pid()}_#{System.unique_integer([:positive])}"
    Path.join(System.tmp_dir!(), name)
  end

  defp root?, do: match?({"0\n", 0}, System.cmd("id", ["-u"]))

  defp free_port do
    {:ok, socket} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
    {:ok, port} = :inet.port(socket)
    :ok = :gen_tcp.close(socket)
    port
  end
end
