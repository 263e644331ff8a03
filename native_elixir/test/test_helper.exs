alias ElixirScope.Foundation.Infrastructure.Native
alias ElixirScope.TestSupport.TestSupervisor

Code.ensure_loaded!(Native)

# The application started without test mode: the configuration that is shipped does not ask for it.
Application.put_env(:elixir_scope, :test_mode, true)
{:ok, _pid} = Supervisor.start_child(ElixirScope.Foundation.Supervisor, TestSupervisor)

ExUnit.start()
